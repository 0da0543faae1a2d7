"""How much of what a container wrote into its logs is looked at."""

import json
from pathlib import Path

import pytest

from runner.records import logs
from runner.records.logs import Summary, summarise


def log(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def event(sample: str | int) -> str:
    return json.dumps({"sample_id": sample, "type": "match"})


def nested(levels: int) -> str:
    """A report of so many objects, one in the other."""
    return '{"a":' * levels + "1" + "}" * levels


def reported(path: Path, report: str) -> Summary:
    """What a log with this report comes to."""
    return summarise([log(path / "a.jsonl", f'{{"final_report": {report}}}')])


@pytest.mark.parametrize(("spare", "samples"), [(0, 3), (-1, 2)])
def test_only_so_much_of_an_attempts_logs_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int, samples: int
) -> None:
    """Of all of them together, and the record says so."""
    paths = [log(tmp_path / "1", event("a"), event("b")), log(tmp_path / "2", event("c"))]
    most = sum(path.stat().st_size for path in paths) + spare
    monkeypatch.setattr(logs, "MOST_READ", most)
    found = summarise(paths)
    assert found.samples == samples
    told = f"its logs have more than {most} bytes; the rest was not read"
    assert found.warnings == ((told,) if spare < 0 else ())


def test_a_line_too_long_to_be_kept_counts_as_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one without an end would be read for ever."""
    monkeypatch.setattr(logs, "LONGEST_LINE", 100)
    monkeypatch.setattr(logs, "MOST_READ", 1000)
    path = log(tmp_path / "a", "x" * 1100, event("a"))
    assert summarise([path]).samples == 0
    path = log(tmp_path / "a", "x" * 800, event("a"))
    assert summarise([path]) == Summary(samples=1)


@pytest.mark.parametrize(("samples", "counted"), [(2, 2), (3, 3), (4, 3)])
def test_only_so_many_samples_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int, counted: int
) -> None:
    """Their ids are in memory, and the record says where there may be more."""
    monkeypatch.setattr(logs, "MOST_SAMPLES", 3)
    found = summarise([log(tmp_path / "a", *map(event, range(samples)))])
    assert found.samples == counted
    told = "its logs have 3 samples or more; no more were counted"
    assert found.warnings == ((told,) if samples >= 3 else ())


@pytest.mark.parametrize("spare", [0, -1])
def test_a_report_too_large_for_a_record_stays_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """It counts as a report all the same, and the record says where it is."""
    report = json.dumps({"accuracy": 0.5, "more": "x" * 50})
    monkeypatch.setattr(logs, "LARGEST_REPORT", len(report) + spare)
    found = reported(tmp_path, report)
    assert found.reported
    assert found.withheld == (spare < 0)
    assert found.final_report == (None if spare < 0 else json.loads(report))
    told = f"its final_report has more than {len(report) - 1} bytes; it is in the log alone"
    assert found.warnings == ((told,) if spare < 0 else ())


def test_a_report_too_deep_for_a_record_stays_in_the_log(tmp_path: Path) -> None:
    """Not every reader of JSON gets to its end, lists counted."""
    why = "its final_report is too deep, has too many values or is no JSON"
    told = (f"{why}; it is in the log alone",)
    assert reported(tmp_path, nested(63)).final_report == json.loads(nested(63))
    assert reported(tmp_path, nested(64)) == Summary(withheld=True, warnings=told)
    lists = '{"a": ' + "[" * 62 + "1" + "]" * 62 + "}"
    assert reported(tmp_path, lists).final_report == json.loads(lists)
    assert reported(tmp_path, lists.replace("1", "[1]")) == Summary(withheld=True, warnings=told)


@pytest.mark.parametrize("values", [5000, 5001])
def test_a_report_of_too_many_values_stays_in_the_log(tmp_path: Path, values: int) -> None:
    """Small ones take a hundred times more memory than text, and every reader has all of them."""
    found = reported(tmp_path, json.dumps({"a": [0] * (values - 1)}))
    assert found.withheld == (values > 5000)


@pytest.mark.parametrize("report", ["{}", "{ }", "null", "[1]", '"text"', "1", "NaN"])
def test_what_reports_nothing_is_no_report(tmp_path: Path, report: str) -> None:
    """One that came before it counts."""
    assert reported(tmp_path, report) == Summary()
    first = log(tmp_path / "first", '{"final_report": {"a": 1}}')
    assert summarise([first, tmp_path / "a.jsonl"]).final_report == {"a": 1}
    assert not reported(tmp_path, report).reported


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
@pytest.mark.parametrize(("spare", "counted"), [(0, 2), (-1, 1)])
def test_a_long_line_with_pythons_numbers_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, spare: int, counted: int
) -> None:
    """To make JSON of it takes long; of one without such numbers it does not."""
    line = f'{{"sample_id": 1, "data": [{number}, "{"x" * 100}"]}}'
    monkeypatch.setattr(logs, "LONGEST_PYTHON", len(line) + 1 + spare)
    other = line.replace(number, "0").replace("1", "2", 1) + " " * 100
    assert summarise([log(tmp_path / "a", line, other)]).samples == counted


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
@pytest.mark.parametrize(("spare", "counted"), [(0, 3), (-1, 2)])
def test_only_so_much_with_pythons_numbers_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, spare: int, counted: int
) -> None:
    """Of all lines together; those without count on."""
    lines = [f'{{"sample_id": {sample}, "data": {number}}}' for sample in (1, 2)]
    monkeypatch.setattr(logs, "MOST_PYTHON", sum(len(line) + 1 for line in lines) + spare)
    assert summarise([log(tmp_path / "a", *lines, event(3))]).samples == counted

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.records import logs
from runner.records.logs import Summary, plain_json, summarise

SPEC = {"spec": {"completion_fns": ["dummy"], "eval_name": "a.dev.v0"}}
REPORT: dict[str, Any] = {
    "final_report": {"accuracy": 0.5, "usage_total_tokens": 10},
    "run_id": "r",
}


def event(sample: str, kind: str = "match", **data: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"run_id": "r", "event_id": 0, "sample_id": sample, "type": kind, "data": data}


def log(path: Path, *lines: object) -> Path:
    """A log as oaieval writes it."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_report_and_samples_are_found(tmp_path: Path) -> None:
    """Each sample counts once, however many events it has."""
    path = log(
        tmp_path / "a.jsonl",
        SPEC,
        event("a.dev.0", "sampling"),
        event("a.dev.0"),
        event("a.dev.1"),
        REPORT,
    )
    assert summarise([path]) == Summary(final_report=REPORT["final_report"], samples=2)


def test_the_report_need_not_come_last(tmp_path: Path) -> None:
    """Oaieval's threads write events after it at times."""
    path = log(tmp_path / "a.jsonl", SPEC, REPORT, event("a.dev.0"))
    assert summarise([path]) == Summary(final_report=REPORT["final_report"], samples=1)


def test_of_several_reports_the_last_counts(tmp_path: Path) -> None:
    """Over all logs of the attempt, in their order."""
    first = log(tmp_path / "a.jsonl", {"final_report": {"accuracy": 0.1}})
    second = log(tmp_path / "b.jsonl", event("x"), {"final_report": {"accuracy": 0.2}})
    assert summarise([first, second]) == Summary(final_report={"accuracy": 0.2}, samples=1)


def test_garbage_is_passed_over(tmp_path: Path) -> None:
    """The eval's own code may have written anything, and a crash tears the last line."""
    path = tmp_path / "a.jsonl"
    garbage = [b"no JSON", b"[1]", b"\xff\xfe", b"\0" * 10, b'{"sample_id": []}', b"[" * 9999, b""]
    good = [json.dumps(event("a")).encode(), json.dumps(REPORT).encode()]
    path.write_bytes(b"\n".join([*garbage, *good, b'{"final_report": {"accu']))
    assert summarise([path]) == Summary(final_report=REPORT["final_report"], samples=1)


def test_a_line_beyond_all_measure_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never in memory as a whole, and the lines around it count."""
    monkeypatch.setattr(logs, "LONGEST_LINE", 1000)
    path = log(tmp_path / "a.jsonl", event("a"), event("b", "x" * 5000), event("c"), REPORT)
    assert summarise([path]) == Summary(final_report=REPORT["final_report"], samples=2)


@pytest.mark.parametrize("extra", [-1, 0, 1, 500, 1000, 1001])
def test_a_line_is_passed_over_from_the_limit_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    """One with its end just within it counts; of a longer one no part passes for a line."""
    empty = json.dumps(event("b", "")) + "\n"
    monkeypatch.setattr(logs, "LONGEST_LINE", 1000)
    path = log(tmp_path / "a.jsonl", event("b", "x" * (1000 - len(empty) + extra)), event("c"))
    assert summarise([path]).samples == (1 if extra > 0 else 2)
    path.write_bytes(path.read_bytes().split(b"\n")[0])
    assert summarise([path]).samples == (1 if extra <= 0 else 0)


def test_the_rest_of_a_long_line_is_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it may look like one."""
    monkeypatch.setattr(logs, "LONGEST_LINE", 1000)
    path = tmp_path / "a.jsonl"
    end = json.dumps(event("b")).encode()
    path.write_bytes(b" " * 1000 + end + b"\n" + b" " * 2000 + end + b"\n")
    assert summarise([path]).samples == 0


def test_a_report_with_nan_is_a_report(tmp_path: Path) -> None:
    """Python writes NaN, which is no JSON, and an eval without samples has such an accuracy."""
    path = log(tmp_path / "a.jsonl", {"final_report": {"accuracy": float("nan"), "NaN": "NaN"}})
    assert summarise([path]).final_report == {"accuracy": None, "NaN": "NaN"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text('NaInfity-"\\x', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=json_values)
def test_whatever_python_writes_is_turned_into_json(value: object) -> None:
    """Floats that JSON does not have become null, and nothing else changes."""
    given = json.dumps(value)
    expected = json.loads(given, parse_constant=lambda _: None)
    assert json.loads(plain_json(given.encode()), parse_constant=pytest.fail) == expected


def test_without_logs_there_is_nothing() -> None:
    """Some commands write none."""
    assert summarise([]) == Summary()


def test_a_report_that_is_too_large_is_withheld(tmp_path: Path) -> None:
    """Whoever reads the records reads all of them; that there is one still counts."""
    path = log(tmp_path / "a.jsonl", REPORT, {"final_report": {"x": "y" * 300_000}}, event("a"))
    found = summarise([path])
    assert (found.final_report, found.reported, found.samples) == (None, True, 1)
    assert found.warnings == ("its final_report has more than 65536 bytes; it is in the log alone",)


@pytest.mark.parametrize("depth", [65, 500, 100_000])
def test_a_report_that_is_too_deep_is_withheld(tmp_path: Path, depth: int) -> None:
    """Readers of JSON know an end, each another one."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"final_report": {"x": ' + "[" * depth + "]" * depth + "}}\n")
    found = summarise([path])
    assert (found.final_report, found.reported) == (None, depth < 100_000)


def test_an_empty_report_says_nothing(tmp_path: Path) -> None:
    """The one before it counts."""
    path = log(tmp_path / "a.jsonl", REPORT, {"final_report": {}})
    assert summarise([path]).final_report == REPORT["final_report"]
    assert not summarise([log(tmp_path / "b.jsonl", {"final_report": {}})]).reported


def test_so_much_of_the_logs_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the record says that it was not all."""
    monkeypatch.setattr(logs, "MOST_READ", 300)
    path = log(tmp_path / "a.jsonl", event("a"), event("b"), event("c"), event("d"), REPORT)
    found = summarise([path])
    assert (found.samples, found.reported) == (3, False)
    assert found.warnings == ("its logs have more than 300 bytes; the rest was not read",)


def test_so_many_samples_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More may be there."""
    monkeypatch.setattr(logs, "MOST_SAMPLES", 2)
    found = summarise([log(tmp_path / "a.jsonl", event("a"), event("b"), event("c"))])
    assert found.samples == 2
    assert found.warnings == ("its logs have 2 samples or more; no more were counted",)


def test_pythons_numbers_are_looked_for_in_so_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To turn them into JSON takes long; other lines count on."""
    monkeypatch.setattr(logs, "LONGEST_PYTHON", 1000)
    monkeypatch.setattr(logs, "MOST_PYTHON", 300)
    nan = float("nan")
    lines = [event("a", x=nan), event("b", x=[nan] * 500), event("c", x=nan), event("d")]
    assert summarise([log(tmp_path / "a.jsonl", *lines)]).samples == 2

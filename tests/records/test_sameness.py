import json
from pathlib import Path

import pytest

from runner.records import sameness
from runner.records.sameness import Sameness, compare_logs, compare_values, random_figures

NO_REPORTS = (None, None)


def event(sample: str, kind: str, data: object, number: int = 0) -> str:
    """A line as oaieval writes it, with what each run has of its own."""
    own = {"run_id": f"run{number}", "event_id": number, "created_at": f"{number}"}
    return json.dumps({**own, "sample_id": sample, "type": kind, "data": data, "created_by": ""})


def log(folder: Path, name: str, *lines: str) -> list[Path]:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return [path]


def sampling(sample: str, said: str) -> str:
    return event(sample, "sampling", {"prompt": [{"content": "?"}], "sampled": [said]})


def said(of: Sameness) -> list[tuple[str, str, str]]:
    return [(each.where, each.expected, each.found) for each in of.differences]


def test_the_order_of_events_does_not_count(tmp_path: Path) -> None:
    """Threads write them as they come, and every run has ids and times of its own."""
    lines = [sampling("e.1", "a"), sampling("e.2", "b"), event("e.1", "match", {"correct": True})]
    one = log(tmp_path, "one", '{"spec": {"run_id": "x", "split": "dev"}}', *lines)
    two = log(
        tmp_path,
        "two",
        '{"spec": {"run_id": "y", "split": "dev"}}',
        event("e.1", "match", {"correct": True}, number=7),
        sampling("e.2", "b"),
        sampling("e.1", "a"),
    )
    assert compare_logs(one, two, reports=NO_REPORTS) == Sameness(samples=2)


def test_a_difference_says_where(tmp_path: Path) -> None:
    """The sample, the event, the way to the value, and both values."""
    one = log(tmp_path, "one", sampling("e.1", "a"), event("e.1", "match", {"correct": True}))
    two = log(tmp_path, "two", sampling("e.1", "b"), event("e.1", "match", {"correct": False}))
    assert said(compare_logs(one, two, reports=NO_REPORTS)) == [
        ("sample e.1, sampling, sampled.0", '"a"', '"b"'),
        ("sample e.1, match, correct", "true", "false"),
    ]


@pytest.mark.parametrize("times", [1, 3])
def test_an_event_that_is_missing_or_one_more_counts(tmp_path: Path, times: int) -> None:
    """Equal events are as many as they are, which a set of them would not show."""
    few = log(tmp_path, "few", *[sampling("e.1", "a")] * times)
    more = log(tmp_path, "more", *[sampling("e.1", "a")] * (times + 1))
    (found,) = said(compare_logs(few, more, reports=NO_REPORTS))
    assert found[:2] == ("sample e.1, sampling", "nothing")
    (found,) = said(compare_logs(more, few, reports=NO_REPORTS))
    assert found[2] == "nothing"


def test_what_two_samples_swapped_is_a_difference_of_both(tmp_path: Path) -> None:
    """Although both logs hold the same data."""
    one = log(tmp_path, "one", sampling("e.1", "a"), sampling("e.2", "b"))
    two = log(tmp_path, "two", sampling("e.1", "b"), sampling("e.2", "a"))
    assert [where for where, _, _ in said(compare_logs(one, two, reports=NO_REPORTS))] == [
        "sample e.1, sampling, sampled.0",
        "sample e.2, sampling, sampled.0",
    ]


def test_few_differences_are_described_and_the_others_counted(tmp_path: Path) -> None:
    """The first samples by their numbers, each with its sampling."""
    count = sameness.MOST + 7
    one = log(tmp_path, "one", *(sampling(f"e.{number}", "a") for number in range(count)))
    two = log(tmp_path, "two", *(sampling(f"e.{number}", "b") for number in range(count)))
    found = compare_logs(one, two, reports=NO_REPORTS)
    assert [each.where.split(",")[0] for each in found.differences] == [
        f"sample e.{number}" for number in range(sameness.MOST)
    ]
    assert (found.more, found.samples) == (7, count)


def test_the_run_that_a_log_is_of_counts(tmp_path: Path) -> None:
    """Such as its seed; not its id, its time and who made it."""
    own = {"run_id": "x", "created_at": "1", "created_by": "me"}
    one = log(tmp_path, "one", json.dumps({"spec": {**own, "run_config": {"seed": 1}}}))
    two = log(tmp_path, "two", json.dumps({"spec": {"run_id": "y", "run_config": {"seed": 2}}}))
    found = compare_logs(one, two, reports=NO_REPORTS)
    assert said(found) == [("spec, run_config.seed", "1", "2")]


def test_the_report_in_a_log_counts_where_the_record_has_another(tmp_path: Path) -> None:
    """Whoever changes one of the two is found; what was compared already is not said twice."""
    one = log(tmp_path, "one", '{"final_report": {"accuracy": 0.5}}')
    two = log(tmp_path, "two", '{"final_report": {"accuracy": 0.25}}')
    compared = {"accuracy": 0.25}, {"accuracy": 0.25}
    assert said(compare_logs(one, two, reports=compared)) == [
        ("final report in the log, accuracy", "0.5", "0.25")
    ]
    compared = {"accuracy": 0.5}, {"accuracy": 0.25}
    assert said(compare_logs(one, two, reports=compared)) == []


def test_lines_that_are_no_events_are_counted(tmp_path: Path) -> None:
    """A torn line is not the same as none."""
    one = log(tmp_path, "one", '{"torn', sampling("e.1", "a"))
    two = log(tmp_path, "two", sampling("e.1", "a"))
    found = compare_logs(one, two, reports=NO_REPORTS)
    assert said(found) == [("lines that are no events", "1", "0")]


def test_a_line_longer_than_any_is_one_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes behind it is read."""
    monkeypatch.setattr(sameness, "LONGEST_LINE", 500)
    one = log(tmp_path, "one", sampling("e.1", "a" * 2000), sampling("e.2", "b"))
    two = log(tmp_path, "two", sampling("e.2", "c"))
    assert said(compare_logs(one, two, reports=NO_REPORTS)) == [
        ("lines that are no events", "1", "0"),
        ("sample e.2, sampling, sampled.0", '"b"', '"c"'),
    ]


def test_numbers_that_only_python_writes_are_compared(tmp_path: Path) -> None:
    """NaN in an event does not make the line unreadable."""
    one = log(tmp_path, "one", event("e.1", "metrics", {"score": float("nan"), "of": 1}))
    two = log(tmp_path, "two", event("e.1", "metrics", {"score": float("nan"), "of": 2}))
    assert said(compare_logs(one, two, reports=NO_REPORTS)) == [
        ("sample e.1, metrics, of", "1", "2")
    ]


def test_samples_beyond_the_limit_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is meant to fill memory does not, and nobody calls it the same."""
    monkeypatch.setattr(sameness, "MOST_SAMPLES", 2)
    lines = [sampling(f"e.{number}", "a") for number in range(3)]
    one, two = log(tmp_path, "one", *lines), log(tmp_path, "two", *lines)
    assert compare_logs(one, two, reports=NO_REPORTS).samples_left_out == 2


def test_reports_are_compared_key_by_key() -> None:
    """Also below one another; what one of them lacks is `nothing` there."""
    found = compare_values(
        {"accuracy": 0.5, "by": {"a": 1, "b": [1, 2]}, "old": True},
        {"accuracy": 0.25, "by": {"a": 1, "b": [1, 3]}, "new": None},
        "final report",
    )
    assert said(found) == [
        ("final report, accuracy", "0.5", "0.25"),
        ("final report, by.b.1", "2", "3"),
        ("final report, old", "true", "nothing"),
        ("final report, new", "nothing", "null"),
    ]


@pytest.mark.parametrize("pair", [(True, 1), (1, 1.0), (0, False), ("1", 1), ([], {})])
def test_what_python_takes_for_equal_is_none_in_json(pair: tuple[object, object]) -> None:
    """Both are written differently."""
    assert len(compare_values(*pair, "report").differences) == 1


def test_the_last_digits_of_a_sum_do_not_count() -> None:
    """Threads end in another order, and floats are added up in that order."""
    assert compare_values(0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, "report") == Sameness()
    assert compare_values({"f1": 0.12345678901}, {"f1": 0.12345678902}, "report").differences


@pytest.mark.parametrize(
    "name", ["boostrap_std", "bootstrap_std", "bootstrap_std_target_10%", "retrieval_std"]
)
def test_figures_drawn_at_random_are_named_and_do_not_count(name: str) -> None:
    """openai/evals draws them without a seed; the accuracy next to them counts."""
    found = compare_values({name: 0.1, "accuracy": 1}, {name: 0.2, "accuracy": 0}, "report")
    assert said(found) == [("report, accuracy", "1", "0")]
    assert [(each.where, each.found) for each in found.random] == [(f"report, {name}", "0.2")]
    assert random_figures({name: 0.1, "accuracy": 1}) == [name]


@pytest.mark.parametrize("name", ["accuracy", "std", "accuracy_std", "my_retrieval_std_x"])
def test_other_figures_count(name: str) -> None:
    """Whatever they are called like."""
    assert compare_values({name: 0.1}, {name: 0.2}, "report").differences
    assert random_figures({name: 0.1}) == []


def test_long_texts_are_cut_to_where_they_differ() -> None:
    """A line has room for it, and the reader sees what differs."""
    one, two = ("x" * 500 + text + "y" * 500 for text in ("left", "right"))
    (found,) = compare_values(one, two, "report").differences
    assert "left" in found.expected
    assert "right" in found.found
    assert max(len(found.expected), len(found.found)) < 100


def test_a_value_that_is_too_deep_is_compared_as_a_whole() -> None:
    """A report that is meant to break the comparison does not."""
    one: object = 1
    two: object = 2
    for _ in range(300):
        one, two = [one], [two]
    assert len(compare_values(one, two, "report").differences) == 1
    assert compare_values(one, one, "report") == Sameness()

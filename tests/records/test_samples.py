import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.records import logs, samples
from runner.records.samples import LoggedUsage, SampleIndex


def event(sample: str | int | None, kind: str, data: object) -> str:
    return json.dumps({"run_id": "r", "sample_id": sample, "type": kind, "data": data})


def log(folder: Path, *lines: str, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(params=["small", "large"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[SampleIndex]:
    """An index that keeps the events of small logs, or one that reads them once more."""
    if request.param == "large":
        monkeypatch.setattr(samples, "SMALL", 0)
    return SampleIndex


def test_events_are_put_together_by_sample(index: type[SampleIndex], tmp_path: Path) -> None:
    """Whichever order threads wrote them in; samples are in the order of their numbers."""
    path = log(
        tmp_path,
        '{"spec": {}}',
        event("e.dev.10", "sampling", {"prompt": "ten"}),
        event("e.dev.9", "sampling", {"prompt": "nine"}),
        event("e.dev.10", "match", {"correct": True}),
        event("e.dev.9", "match", {"correct": False}),
        '{"final_report": {"accuracy": 0.5}}',
    )
    found = index([path])
    assert found.ids == ["e.dev.9", "e.dev.10"]
    assert found.correct == [False, True]
    nine, ten = found.samples()
    assert [(one.type, one.data) for one in nine.events] == [
        ("sampling", {"prompt": "nine"}),
        ("match", {"correct": False}),
    ]
    assert [one.data.get("prompt") for one in ten.events] == ["ten", None]


def test_samples_of_several_logs_are_one_list(index: type[SampleIndex], tmp_path: Path) -> None:
    """An eval may leave several."""
    paths = [
        log(tmp_path, event(name, "match", {"correct": True}), name=name) for name in ("a.1", "a.0")
    ]
    found = index(paths)
    assert [one.id for one in found.samples()] == ["a.0", "a.1"]
    assert [len(one.events) for one in found.samples()] == [1, 1]


def test_lines_that_are_no_events_are_counted(index: type[SampleIndex], tmp_path: Path) -> None:
    """Torn, damaged, or of another kind; the others are read."""
    path = log(tmp_path, "{", "[]", "", event(1, "match", {"correct": True}), '{"sample_id": 1.5}')
    found = index([path])
    assert (found.ids, found.unreadable) == (["1"], 3)


def test_what_only_python_writes_is_read(index: type[SampleIndex], tmp_path: Path) -> None:
    """NaN is no figure."""
    path = log(tmp_path, '{"sample_id": "a", "type": "metrics", "data": {"score": NaN}}')
    found = index([path])
    assert (found.ids, found.scores, found.unreadable) == (["a"], [None], 0)
    assert [one.events[0].data for one in found.samples()] == [{"score": None}]


@pytest.mark.parametrize(
    ("values", "correct"), [([1, 0.0], [True, False]), ([True, 0.5], [None, None])]
)
def test_scores_of_nought_and_one_are_verdicts(
    index: type[SampleIndex], tmp_path: Path, values: list[float], correct: list[bool | None]
) -> None:
    """Where all are, and no match says otherwise."""
    lines = [event(place, "metrics", {"score": one}) for place, one in enumerate(values)]
    found = index([log(tmp_path, *lines)])
    assert found.correct == correct
    assert found.scores == [float(one) for one in values]


def test_a_sample_is_right_if_each_of_its_matches_is(
    index: type[SampleIndex], tmp_path: Path
) -> None:
    """In any order."""
    lines = [event("a", "match", {"correct": one}) for one in (True, False, True)]
    lines += [event("b", "match", {"correct": one}) for one in (1, True, "odd")]
    assert index([log(tmp_path, *lines)]).correct == [False, True]


def test_tokens_are_added_up_by_model(index: type[SampleIndex], tmp_path: Path) -> None:
    """What is no count is none."""
    usage = [
        ("m", {"prompt_tokens": 3, "completion_tokens": 4}),
        ("m", {"prompt_tokens": 30, "completion_tokens": None}),
        ("n", {"prompt_tokens": True, "completion_tokens": -1, "prompt_tokens_details": {}}),
        (None, {"prompt_tokens": 10**30, "completion_tokens": 1}),
        ("m", "lots"),
    ]
    lines = [event("a", "sampling", {"model": model, "usage": one}) for model, one in usage]
    found = index([log(tmp_path, *lines)])
    assert found.usage == {"m": LoggedUsage(33, 4), "n": LoggedUsage(0, 0), "": LoggedUsage(0, 1)}


def test_what_is_too_much_is_counted(
    index: type[SampleIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples, events of all, and events of one: a log must not fill memory."""
    monkeypatch.setattr(samples, "MOST_SAMPLES", 2)
    monkeypatch.setattr(samples, "MOST_OF_A_SAMPLE", 3)
    monkeypatch.setattr(samples, "MOST_EVENTS", 7)
    lines = [event(place % 3, "x", {}) for place in range(12)]
    found = index([log(tmp_path, *lines)])
    assert (found.ids, found.events_left_out) == (["0", "1"], 5)
    assert [(len(one.events), one.events_left_out) for one in found.samples()] == [(3, 1), (3, 0)]


def test_long_ids_are_cut_and_stay_apart(index: type[SampleIndex], tmp_path: Path) -> None:
    """They would be kept in memory."""
    path = log(tmp_path, *(event("x" * 5000 + end, "x", {}) for end in "ab"))
    found = index([path])
    assert [len(one) for one in found.ids] == [200, 200]
    assert len(set(found.ids)) == 2


def test_an_event_that_nobody_would_read_is_left_out(
    index: type[SampleIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of megabytes, and what follows it is read."""
    for module in (logs, samples):
        monkeypatch.setattr(module, "LONGEST_EVENT", 1000)
    path = log(tmp_path, event("a", "x", "y" * 3000), event("a", "x", "y"))
    found = index([path])
    assert (found.events_left_out, found.unreadable) == (1, 0)
    assert [one.data for each in found.samples() for one in each.events] == ["y"]


def test_a_log_that_was_cut_meanwhile_is_shown_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody tidies up while a report is made."""
    monkeypatch.setattr(samples, "SMALL", 0)
    path = log(tmp_path, event("a", "x", 1), event("a", "x", 2))
    index = SampleIndex([path])
    path.write_text(event("a", "x", 1) + "\n")
    (found,) = index.samples()
    assert ([one.data for one in found.events], found.events_left_out) == ([1], 1)


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """A log of 150 MB takes no more than 60 MB above what Python takes."""
    path = tmp_path / "log.jsonl"
    text = "x" * 15_000
    with path.open("w") as file:
        for place in range(10_000):
            file.write(event(place, "sampling", {"prompt": text}) + "\n")
    code = (
        "import resource, sys; from pathlib import Path;"
        "from runner.records.samples import SampleIndex;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak();"
        "count = sum(1 for _ in SampleIndex([Path(sys.argv[1])]).samples());"
        "print(count, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    count, grown = map(int, done.stdout.split())
    assert count == 10_000
    assert grown * 1024 < 60_000_000

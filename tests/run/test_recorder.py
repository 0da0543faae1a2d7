from pathlib import Path

import pytest

from runner.errors import EnvironmentFault
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile, read_attempts, read_progress
from runner.run.record import Recorder
from tests.outcomes import failure, job, success

A, B = job("a"), job("b")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="dummy", eval_set="s")


def recorder(layout: Layout) -> Recorder:
    return Recorder(layout, run="r")


def finished(layout: Layout) -> list[tuple[str, ...]]:
    """Lines of the progress file."""
    assert layout.progress.read_text().count("\n") == len(read_progress(layout.progress).commands)
    return list(read_progress(layout.progress).commands)


def test_every_outcome_is_an_attempt_and_a_success_is_finished(layout: Layout) -> None:
    """Upstream, told not to stop at errors, records failed evals as finished."""
    with recorder(layout) as recording:
        recording.record([failure(A, "1", host="h1"), success(B, "2", host="h2")])
        assert finished(layout) == [B.command]
        recording.record([success(A, "3", run="r3")])
    assert finished(layout) == [B.command, A.command]
    kept = read_attempts(layout.attempts).records
    assert [(record.id, record.run, record.host) for record in kept] == [
        ("1", "r1", "h1"),
        ("2", "r1", "h2"),
        ("3", "r3", "host"),
    ]


def test_a_command_that_is_finished_is_written_once(layout: Layout) -> None:
    """However often it succeeds, in this run or an earlier one."""
    with ProgressFile(layout.progress) as file:
        file.add_commands(A.command)
    with recorder(layout) as recording:
        recording.record([success(A, "1"), success(B, "2"), success(B, "3")])
        recording.record([success(B, "4")])
    assert finished(layout) == [A.command, B.command]


def test_a_success_that_is_only_an_attempt_is_completed(layout: Layout) -> None:
    """Somebody took the line out of the progress file, or an older version left it like that."""
    with AttemptsFile(layout.attempts) as file:
        file.add_records(success(A, "1", run="r0"))
    with recorder(layout) as recording:
        assert recording.complete("1")
        assert recording.changed
        assert recording.complete("1")
    assert finished(layout) == [A.command]
    assert len(read_attempts(layout.attempts).records) == 1


def test_a_success_is_finished_before_it_is_an_attempt(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes in between, and whoever removes the container then, it does not run again."""

    def fail(*_: object) -> None:
        raise EnvironmentFault("the disk is full")

    with recorder(layout) as recording:
        monkeypatch.setattr(AttemptsFile, "add_records", fail)
        with pytest.raises(EnvironmentFault):
            recording.record([failure(A, "1"), success(B, "2")])
        assert not recording.complete("2")
    assert finished(layout) == [B.command]


def test_a_failure_on_record_is_complete(layout: Layout) -> None:
    """Nothing has to be written, and nothing is."""
    with AttemptsFile(layout.attempts) as file:
        file.add_records(failure(A, "1", run="r0"))
    with recorder(layout) as recording:
        assert recording.complete("1")
        assert not recording.changed
    assert finished(layout) == []


def test_an_attempt_that_is_not_on_record_is_not_complete(layout: Layout) -> None:
    """Its outcome has yet to be judged; what this run records is known at once."""
    with recorder(layout) as recording:
        assert not recording.complete("1")
        recording.record([success(A, "1")])
        assert recording.complete("1")
        assert not recording.changed


def test_a_torn_attempt_is_not_on_record(layout: Layout) -> None:
    """The crash came before it was durable, so its container is judged anew."""
    with AttemptsFile(layout.attempts) as file:
        file.add_records(success(A, "1", run="r0"))
    content = layout.attempts.read_bytes()
    layout.attempts.write_bytes(content[:-10])
    with recorder(layout) as recording:
        assert not recording.complete("1")
        recording.record([success(A, "1")])
    assert finished(layout) == [A.command]
    assert len(read_attempts(layout.attempts).records) == 1

from pathlib import Path

import pytest

from runner.commands.status import rows
from runner.model import Attempt, Result
from runner.records.attempts import AttemptsFile
from runner.records.layout import Layout
from runner.records.progress import ProgressFile
from runner.records.state import EvalState
from tests.outcomes import failure, job, success

A = job("a")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="dummy", eval_set="s")


def attempted(layout: Layout, *outcomes: Attempt) -> None:
    with AttemptsFile(layout.attempts) as file:
        file.add_records(*(msgspec.structs.replace(each, run="r", host="h") for each in outcomes))


def finish(layout: Layout) -> None:
    with ProgressFile(layout.progress) as file:
        file.add_commands(A.command)


def row(layout: Layout, *, running: bool = False) -> EvalState:
    (found,) = rows(layout, [A.command], running=[A.command] if running else [])
    return found


def test_what_was_never_attempted_is_to_do(layout: Layout) -> None:
    """There are no files at all then."""
    assert row(layout) == EvalState(eval="a", state="to do")


def test_a_failure_has_its_reason(layout: Layout) -> None:
    """That of the newest attempt."""
    attempted(layout, failure(A, "1", reason="old"), failure(A, "2", reason="new"))
    found = row(layout)
    assert (found.state, found.reason, found.attempts) == ("failed", "new", 2)


def test_an_attempt_whose_end_is_not_known_is_lost(layout: Layout) -> None:
    """Neither the eval nor its result is to blame."""
    attempted(layout, failure(A, result=Result.LOST, reason="the engine went away"))
    assert (row(layout).state, row(layout).reason) == ("lost", "the engine went away")


def test_what_is_finished_shows_its_success(layout: Layout) -> None:
    """Not an attempt that failed later, and no reason of an earlier one."""
    attempted(
        layout,
        failure(A, "1"),
        success(A, "2", final_report={"accuracy": 1}, samples=3, duration=5),
        failure(A, "3"),
    )
    finish(layout)
    assert row(layout) == EvalState(
        eval="a",
        state="done",
        final_report={"accuracy": 1},
        samples=3,
        duration=5,
        attempts=3,
    )


def test_what_upstream_finished_is_done_without_figures(layout: Layout) -> None:
    """It keeps no attempts."""
    finish(layout)
    assert row(layout) == EvalState(eval="a", state="done")


def test_a_plain_line_of_an_old_file_counts(layout: Layout) -> None:
    """It is the command, joined by single spaces."""
    layout.progress.parent.mkdir(parents=True)
    layout.progress.write_text("oaieval dummy a\n")
    assert row(layout).state == "done"


def test_a_success_whose_line_was_taken_out_is_to_do(layout: Layout) -> None:
    """Deleting from the progress file is upstream's way to start over."""
    attempted(layout, success(A))
    assert row(layout).state == "to do"


def test_what_runs_now_is_running(layout: Layout) -> None:
    """Whatever became of it before, unless it is finished."""
    attempted(layout, failure(A))
    assert (row(layout, running=True).state, row(layout, running=True).reason) == ("running", "")
    finish(layout)
    assert row(layout, running=True).state == "done"


def test_rows_keep_the_order_of_the_commands(layout: Layout) -> None:
    """The plan's, whatever finished first."""
    names = [found.eval for found in rows(layout, [job(name).command for name in "cab"])]
    assert names == ["c", "a", "b"]

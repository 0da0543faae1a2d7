from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Attempt, Command, Result, State
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, Finished, ProgressFile
from runner.records.state import EvalState, EvalStates, RunState
from tests.outcomes import failure, job, success

A = job("a")
NAMES = ("x", "y", "z")
COMMANDS = [job(name).command for name in NAMES]

outcomes = st.lists(
    st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers(0, 99)), max_size=6
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="dummy", eval_set="s")


def attempted(layout: Layout, *attempts: Attempt) -> None:
    with AttemptsFile(layout.attempts) as file:
        file.add_records(*attempts)


def finish(layout: Layout) -> None:
    with ProgressFile(layout.progress) as file:
        file.add_commands(A.command)


def state_of(layout: Layout, *, running: bool = False) -> EvalState:
    state = RunState.from_directory(layout)
    (found,) = state.evals([A.command], running={A.command: ""} if running else {})
    return found


def recorded(name: str, good: bool, number: int) -> Attempt:  # noqa: FBT001 - as drawn
    return (success if good else failure)(job(name), attempt=str(number))


def shown(states: list[EvalState]) -> list[tuple[str, State, int]]:
    return [(one.eval, one.state, one.attempts) for one in states]


def run_state(*attempts: Attempt, finished: tuple[Command, ...] = ()) -> RunState:
    return RunState(
        model="dummy", eval_set="s", finished=Finished(commands=finished), attempts=attempts
    )


def test_what_was_never_attempted_is_to_do(layout: Layout) -> None:
    """There are no files at all then."""
    assert state_of(layout) == EvalState(eval="a", state=State.TO_DO)


def test_a_failure_has_its_reason(layout: Layout) -> None:
    """That of the newest attempt."""
    attempted(layout, failure(A, "1", reason="old"), failure(A, "2", reason="new"))
    found = state_of(layout)
    assert (found.state, found.reason, found.attempts) == (State.FAILED, "new", 2)


def test_an_attempt_whose_end_is_not_known_is_lost(layout: Layout) -> None:
    """Neither the eval nor its result is to blame."""
    attempted(layout, failure(A, result=Result.LOST, reason="the engine went away"))
    assert (state_of(layout).state, state_of(layout).reason) == (State.LOST, "the engine went away")


def test_what_is_finished_shows_its_success(layout: Layout) -> None:
    """Not an attempt that failed later, and no reason of an earlier one."""
    attempted(
        layout,
        failure(A, "1"),
        success(A, "2", final_report={"accuracy": 1}, samples=3, duration=5),
        failure(A, "3"),
    )
    finish(layout)
    assert state_of(layout) == EvalState(
        eval="a",
        state=State.DONE,
        final_report={"accuracy": 1},
        samples=3,
        duration=5,
        attempts=3,
        host="host",
    )


def test_what_upstream_finished_is_done_without_figures(layout: Layout) -> None:
    """It keeps no attempts."""
    finish(layout)
    assert state_of(layout) == EvalState(eval="a", state=State.DONE)


def test_a_plain_line_of_an_old_file_counts(layout: Layout) -> None:
    """It is the command, joined by single spaces."""
    layout.progress.parent.mkdir(parents=True)
    layout.progress.write_text("oaieval dummy a\n")
    assert state_of(layout).state is State.DONE


def test_a_success_whose_line_was_taken_out_is_to_do(layout: Layout) -> None:
    """Deleting from the progress file is upstream's way to start over."""
    attempted(layout, success(A))
    assert state_of(layout).state is State.TO_DO


def test_what_runs_now_is_running(layout: Layout) -> None:
    """Whatever became of it before, unless it is finished."""
    attempted(layout, failure(A))
    assert (state_of(layout, running=True).state, state_of(layout, running=True).reason) == (
        State.RUNNING,
        "",
    )
    finish(layout)
    assert state_of(layout, running=True).state is State.DONE


def test_states_keep_the_order_of_the_commands(layout: Layout) -> None:
    """The plan's, whatever finished first."""
    state = RunState.from_directory(layout)
    names = [found.eval for found in state.evals([job(name).command for name in "cab"])]
    assert names == ["c", "a", "b"]


@given(first=outcomes, then=outcomes, fresh=st.booleans())
def test_states_made_again_are_those_made_at_once(
    first: list[tuple[str, bool, int]], then: list[tuple[str, bool, int]], *, fresh: bool
) -> None:
    """Whether attempts were added to or replaced, those that were kept are no others."""
    kept = EvalStates()
    for drawn in (first, then if fresh else [*first, *then]):
        attempts = [recorded(*each) for each in drawn]
        commands = dict.fromkeys(one.command for one in attempts if one.exit_code == 0)
        run = run_state(*attempts, finished=tuple(commands))
        again = run.evals(COMMANDS, states=kept)
        assert shown(again) == shown(kept.of(run, COMMANDS))
        assert shown(again) == shown(run.evals(COMMANDS))


def test_a_running_command_says_so_unless_it_is_done() -> None:
    """What runs again after a failure shows nothing of that."""
    run = run_state(recorded("x", good=False, number=1), finished=(job("y").command,))
    states = run.evals(COMMANDS, running=dict.fromkeys(COMMANDS[:2], ""))
    assert [one.state for one in states] == [State.RUNNING, State.DONE, State.TO_DO]
    assert states[0].reason == ""


def test_an_eval_that_is_there_twice_shows_its_arguments() -> None:
    """One that ran with one set of arguments shows none."""
    seed = Command((*COMMANDS[0], "--seed", "1"))
    states = run_state().evals([COMMANDS[0], seed, COMMANDS[1]])
    assert [one.arguments for one in states] == ["without arguments", "--seed 1", ""]


def test_how_long_an_eval_ran_that_was_lost_unseen_is_not_known(layout: Layout) -> None:
    """With its host, as a rule; the record says 0 seconds."""
    lost = failure(A, result=Result.LOST, duration=0.0, host="lab")
    attempted(layout, lost)
    assert state_of(layout).duration is None
    attempted(layout, msgspec.structs.replace(lost, id="2", started_at=lost.ended_at, duration=3.0))
    assert state_of(layout).duration == 3

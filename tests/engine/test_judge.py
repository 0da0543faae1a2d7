import msgspec
import pytest

from runner.engine.ending import Cut, Ending, judge
from runner.gateway.messages import Account
from runner.gateway.prices import RAISE_BUDGET
from runner.model import ContainerSettings, Fault, Problem, Result

SETTINGS = ContainerSettings(
    image="i", memory=64 << 20, cpus=None, pids_limit=1, gpus=None, timeout=90, network="none"
)


def test_exit_code_zero_is_a_success() -> None:
    """A success has no fault and no reason."""
    found = judge(Ending(exit_code=0), SETTINGS)
    assert (found.result, found.fault, found.reason) == (Result.SUCCESS, None, "")


def test_a_stopped_eval_that_had_reported_counts() -> None:
    """What finished is never lost, although the signal still met its container."""
    found = judge(Ending(exit_code=0, cut=Cut(why="stopped"), reported=True), SETTINGS)
    assert found.result is Result.SUCCESS


def test_a_stopped_eval_without_a_report_does_not_count() -> None:
    """A program may take the signal for a reason to end well with half its work done."""
    found = judge(Ending(exit_code=0, cut=Cut(why="stopped")), SETTINGS)
    assert (found.result, found.fault) == (Result.LOST, Fault.ENVIRONMENT)


@pytest.mark.parametrize("code", [137, 143])
def test_what_somebody_else_killed_is_lost(code: int) -> None:
    """An engine that shuts down, or a person, ends containers like that."""
    found = judge(Ending(exit_code=code), SETTINGS)
    assert (found.result, found.fault) == (Result.LOST, Fault.ENVIRONMENT)


@pytest.mark.parametrize(("unwatched", "result"), [(True, Result.LOST), (False, Result.FAILURE)])
def test_status_255_means_nothing_where_nobody_looked(*, unwatched: bool, result: Result) -> None:
    """An engine that died gives it to containers whose end it did not see."""
    assert judge(Ending(exit_code=255, unwatched=unwatched), SETTINGS).result is result


@pytest.mark.parametrize("code", [0, 1, 137])
def test_out_of_time_is_a_failure_whatever_the_exit_code(code: int) -> None:
    """An eval that was asked to end may exit with 0 without having finished."""
    found = judge(Ending(exit_code=code, timed_out=True), SETTINGS)
    assert (found.result, found.fault) == (Result.FAILURE, Fault.EVAL)
    assert found.reason == "ran longer than its time limit of 90 s (--timeout)"


def test_out_of_memory_names_limit_and_option() -> None:
    """The reader learns what to raise."""
    found = judge(Ending(exit_code=137, oom_killed=True), SETTINGS)
    assert found.reason == "needed more memory than its limit of 64 MiB (raise it with --memory)"
    unknown = msgspec.structs.replace(SETTINGS, memory=0)
    found = judge(Ending(exit_code=137, oom_killed=True), unknown)
    assert found.reason == "needed more memory than its limit (raise it with --memory)"


def test_a_success_although_a_child_was_killed_for_memory_counts() -> None:
    """The eval coped with it."""
    assert judge(Ending(exit_code=0, oom_killed=True), SETTINGS).result is Result.SUCCESS


def test_what_the_runner_stopped_is_lost() -> None:
    """It is nobody's failure, and is attempted again."""
    found = judge(Ending(exit_code=143, cut=Cut(why="stopped because of that")), SETTINGS)
    assert (found.result, found.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert found.reason == "stopped because of that"


def test_an_unknown_end_is_lost() -> None:
    """Without an exit code nobody can say that it succeeded."""
    found = judge(Ending(lost="its container is gone"), SETTINGS)
    assert (found.result, found.fault) == (Result.LOST, Fault.ENVIRONMENT)


def test_any_other_end_is_the_evals_failure() -> None:
    """The exit status is the reason."""
    found = judge(Ending(exit_code=3), SETTINGS)
    assert (found.fault, found.reason) == (Fault.EVAL, "exited with status 3")


def test_an_eval_that_ended_well_as_its_time_ran_out_counts() -> None:
    """All of it has been paid for, and its log says that it is done."""
    assert judge(Ending(exit_code=0, timed_out=True, reported=True), SETTINGS).result is (
        Result.SUCCESS
    )


@pytest.mark.parametrize("code", [1, 137, 255])
def test_what_ended_badly_while_the_engine_went_away_is_lost(code: int) -> None:
    """An engine that is stopped asks its containers to end; that is no fault of the eval's."""
    found = judge(Ending(exit_code=code, absent=True), SETTINGS)
    assert (found.result, found.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert found.reason == f"ended with status {code} while the engine went away"
    assert judge(Ending(exit_code=0, absent=True), SETTINGS).result is Result.SUCCESS


@pytest.mark.parametrize("code", [0, 1])
def test_an_eval_that_could_ask_no_more_is_lost_whatever_it_made_of_that(code: int) -> None:
    """Upstream's evals may well end with 0 where samples got no answer."""
    stopped = Account(stopped="the budget is used up", kind=Problem.BUDGET)
    found = judge(Ending(exit_code=code, reported=True, account=stopped), SETTINGS)
    assert (found.result, found.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert found.reason == "the budget is used up"
    assert judge(Ending(exit_code=0, account=Account()), SETTINGS).result is Result.SUCCESS


@pytest.mark.parametrize(
    ("said", "reason"),
    [(f"used; up; {RAISE_BUDGET}", "used; up"), ("no price; add it", "no price; add it")],
)
def test_the_cure_of_a_budget_is_not_said_for_each_eval(said: str, reason: str) -> None:
    """The run says it once."""
    stopped = Account(stopped=said, kind=Problem.BUDGET)
    assert judge(Ending(exit_code=0, account=stopped), SETTINGS).reason == reason

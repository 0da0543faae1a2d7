from collections.abc import Sequence

import pytest

from runner.model import Task
from runner.plan.cutoffs import TimeBudget
from runner.run import schedule
from runner.run.schedule import Ended, Event, Idle, Started, Unfit
from tests.run.pretended import Pretended, job, made, until_idle


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FIRST_PAUSE", 0.001)


def budget(left: float = 60, **past: float) -> TimeBudget:
    """A budget with so much time left, which does not pass; successes on record by eval."""
    known = [(job(name).command, seconds) for name, seconds in past.items()]
    return TimeBudget(seconds=left, began=0, clock=lambda: 0, past=known)


def unfit(events: Sequence[Event]) -> list[int]:
    """How many jobs were said not to fit, each time that it was said."""
    return [event.jobs for event in events if isinstance(event, Unfit)]


def test_with_time_enough_a_budget_changes_nothing() -> None:
    """Jobs start in order, and nothing is said."""
    attempts = Pretended(seconds=60)
    found = made(attempts, ["s1", "f2", "s3"], budget=budget(60, s1=60))
    events = until_idle(found)
    assert attempts.made == ["s1", "f2", "s3"]
    assert unfit(events) == []
    assert not found.out_of_time


def test_a_job_that_does_not_fit_lets_others_go_first() -> None:
    """It is never started; that is said once, with how many are left."""
    attempts = Pretended(seconds=1)
    past = {"s1": 61, "s2": 1, "s3": 99, "s4": 60}
    found = made(attempts, [*past, "s5"], at_once=2, budget=budget(60, **past))
    events = until_idle(found)
    assert sorted(attempts.made) == ["s2", "s4", "s5"]
    assert unfit(events) == [2]
    assert found.out_of_time


def test_a_slot_is_used_again_with_what_its_eval_has_taught() -> None:
    """The next one is judged by the first one's time, though that is not yet recorded."""
    attempts = Pretended(seconds=61)
    events = until_idle(made(attempts, ["s1", "s2", "s3"], budget=budget(60)))
    assert attempts.made == ["s1"]
    assert unfit(events) == [2]


def test_without_time_nothing_is_started() -> None:
    """Whether its usual time is known or not."""
    attempts = Pretended()
    assert until_idle(made(attempts, ["s1", "s2"], budget=budget(0, s1=1))) == [
        Unfit(2, 0.0),
        Idle(),
    ]
    assert attempts.made == []


def test_what_an_earlier_run_left_needs_no_time() -> None:
    """Its containers run already, and somebody must see to them."""
    attempts = Pretended()
    left = [Task(job=job("s9"), attempt="a", container="c")]
    events = until_idle(made(attempts, ["s1"], left=left, budget=budget(0)))
    assert attempts.made == ["taken_over s9"]
    assert unfit(events) == [1]


def test_a_retry_must_fit_too() -> None:
    """Its pause may take the last of the time."""
    attempts = Pretended()
    clock = [0.0]
    found = made(
        attempts, ["l"], retries=5, budget=TimeBudget(seconds=60, began=0, clock=lambda: clock[0])
    )

    def record(ended: Ended) -> None:
        clock[0] += 30
        ended.recorded.set_result(None)

    events = until_idle(found, record)
    assert attempts.made == ["l", "l"]
    assert unfit(events) == [1]


def test_stopping_is_not_for_lack_of_time() -> None:
    """What a stop leaves out is not said to be unfit."""
    attempts = Pretended()
    found = made(attempts, ["h", "s1"], budget=budget(60, h=1, s1=99))
    assert isinstance(found.events.get(timeout=10), Started)
    assert found.stop_starting() == 1
    attempts.go.set()
    assert unfit(until_idle(found)) == []
    assert not found.out_of_time


def test_many_workers_with_a_budget_do_each_job_once() -> None:
    """Nothing that fits is left, and nothing is done twice."""
    attempts = Pretended(seconds=1)
    past = {f"s{number}": 99 if number % 3 == 0 else 1.0 for number in range(200)}
    until_idle(made(attempts, list(past), at_once=16, budget=budget(60, **past)))
    assert sorted(attempts.made) == sorted(name for name in past if past[name] == 1)

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

import pytest

from runner.execute import schedule
from runner.execute.left import Running
from runner.execute.schedule import Broken, Ended, Event, Idle, Schedule, Started, Unfit
from runner.job import ContainerSettings, Fault, Job, Outcome, Result
from runner.plan.budget import Budget

if TYPE_CHECKING:
    from runner.execute.attempt import Attempts

SETTINGS = ContainerSettings(
    image="i", memory=1, cpus=None, pids_limit=1, gpus=None, timeout=1, network="none"
)


def job(name: str) -> Job:
    """A job whose eval's name says how its attempts end."""
    command = ("oaieval", "m", name)
    return Job(command=command, argv=command, eval=name, settings=SETTINGS)


class Pretended:
    """Stands in for `Attempts`, whose faults could not be steered.

    A job's name lists how its attempts end, one letter each, the last for all that follow:
    s success, f failure, l lost, x an exception; h holds until `go` is set and is a success then.

    Args:
        seconds: how long each took.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.made: list[str] = []
        self.kept: list[str] = []
        self.go = threading.Event()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def new(
        self,
        one: Job,
        attempt: str,
        on_start: Callable[[str], None],
        on_success: Callable[[], None],
    ) -> Iterator[Outcome]:
        """Make an attempt."""
        with self._lock:
            before = self.made.count(one.eval)
            self.made.append(one.eval)
        on_start(f"container of {attempt}")
        how = one.eval[min(before, len(one.eval) - 1)]
        yield from self._end(one, attempt, how, on_success)

    @contextlib.contextmanager
    def adopted(
        self,
        running: Running,
        on_start: Callable[[str], None],
        on_success: Callable[[], None],
    ) -> Iterator[Outcome]:
        """Go on with one."""
        self.made.append(f"adopted {running.job.eval}")
        on_start(running.container)
        yield from self._end(running.job, running.attempt, running.job.eval[0], on_success)

    def _end(
        self, one: Job, attempt: str, how: str, on_success: Callable[[], None]
    ) -> Iterator[Outcome]:
        if how == "x":
            raise ValueError("unforeseen")
        if how == "h":
            assert self.go.wait(10)
        ends = {"f": (Result.FAILURE, Fault.EVAL), "l": (Result.LOST, Fault.ENVIRONMENT)}
        result, fault = ends.get(how, (Result.SUCCESS, None))
        if result is Result.SUCCESS:
            on_success()
        try:
            yield Outcome(
                attempt=attempt,
                job=one,
                result=result,
                fault=fault,
                ended_at="",
                duration=self.seconds,
            )
        except BaseException:
            self.kept.append(attempt)
            raise


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FIRST_PAUSE", 0.001)


def made(
    attempts: Pretended,
    names: Sequence[str],
    *,
    at_once: int = 1,
    retries: int = 0,
    left: Sequence[Running] = (),
    budget: Budget | None = None,
) -> Schedule:
    """A started schedule of such jobs."""
    ids = map(str, itertools.count())
    lock = threading.Lock()

    def new_id() -> str:
        with lock:
            return next(ids)

    found = Schedule(
        cast("Attempts", attempts),
        events=SimpleQueue(),
        jobs=[job(name) for name in names],
        left=left,
        at_once=at_once,
        retries=retries,
        new_id=new_id,
        budget=budget,
    )
    found.start()
    return found


def until_idle(found: Schedule, record: Callable[[Ended], None] | None = None) -> list[Event]:
    """All events, each outcome recorded as it comes."""
    events: list[Event] = []
    while not events or not isinstance(events[-1], Idle):
        events.append(found.events.get(timeout=10))
        if isinstance(event := events[-1], Ended):
            if record:
                record(event)
            else:
                event.recorded.set_result(None)
    assert found.events.empty()
    return events


def ends(events: Sequence[Event]) -> list[tuple[str, bool]]:
    """The ended attempts' evals, and whether each is tried again."""
    return [(each.outcome.job.eval, each.again) for each in events if isinstance(each, Ended)]


def test_jobs_start_in_order() -> None:
    """One at a time, each is told of when it starts and when it ends."""
    names = ["s1", "s2", "f3", "s4"]
    events = until_idle(made(Pretended(), names))
    assert [each.job.eval for each in events if isinstance(each, Started)] == names
    assert sorted(ends(events)) == sorted((name, False) for name in names)


def test_the_next_starts_while_a_success_is_recorded() -> None:
    """Recording and removing what ended well keeps no slot."""
    found = made(Pretended(), ["s1", "s2"])
    events: list[Event] = []
    while sum(isinstance(each, Started) for each in events) < 2:
        events.append(found.events.get(timeout=10))
    assert not any(event.recorded.done() for event in events if isinstance(event, Ended))
    for event in events:
        if isinstance(event, Ended):
            event.recorded.set_result(None)
    until_idle(found)


def test_none_starts_while_a_failure_is_recorded() -> None:
    """A failure keeps its slot until it is on record, for it may end the run."""
    attempts = Pretended()
    found = made(attempts, ["f1", "s2"])
    started, ended = (found.events.get(timeout=10) for _ in range(2))
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    time.sleep(0.2)
    assert attempts.made == ["f1"]
    assert found.stop_starting() == 1
    ended.recorded.set_result(None)
    until_idle(found)
    assert attempts.made == ["f1"]


def test_nothing_to_do_is_idle_at_once() -> None:
    """A schedule without jobs says so."""
    assert until_idle(made(Pretended(), [])) == [Idle()]


def test_only_the_environments_faults_are_tried_again() -> None:
    """A lost attempt is made again until it succeeds; a failed one is not."""
    attempts = Pretended()
    events = until_idle(made(attempts, ["lls", "f"], retries=3))
    assert ends(events) == [("lls", True), ("lls", True), ("lls", False), ("f", False)]


def test_retries_have_an_end() -> None:
    """The last attempt says that there will be none after it."""
    events = until_idle(made(Pretended(), ["l"], retries=2))
    assert ends(events) == [("l", True), ("l", True), ("l", False)]


def test_each_attempt_has_an_id_of_its_own() -> None:
    """Records of retries can be told apart."""
    events = until_idle(made(Pretended(), ["l"], retries=2))
    ids = [event.outcome.attempt for event in events if isinstance(event, Ended)]
    assert len(set(ids)) == 3


def test_stopping_says_how_many_are_left_out() -> None:
    """What runs goes on and is told of; nothing new starts."""
    attempts = Pretended()
    found = made(attempts, ["h", "s1", "s2"])
    assert isinstance(found.events.get(timeout=10), Started)
    assert found.stop_starting() == 2
    attempts.go.set()
    assert ends(until_idle(found)) == [("h", False)]
    assert attempts.made == ["h"]


def test_a_stopped_schedule_does_not_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause before a retry ends when nothing more may start."""
    monkeypatch.setattr(schedule, "FIRST_PAUSE", 60)
    found = made(Pretended(), ["l"], retries=5)

    def record(ended: Ended) -> None:
        ended.recorded.set_result(None)
        found.stop_starting()

    assert ends(until_idle(found, record)) == [("l", True)]


def test_no_retry_is_announced_while_stopping() -> None:
    """An attempt that is lost because the run is being stopped is the last one of its job."""
    attempts = Pretended()
    found = made(attempts, ["hl"], retries=5)
    found.stop_starting()
    attempts.go.set()
    assert all(not again for _, again in ends(until_idle(found)))


def test_an_exception_in_a_worker_is_handed_to_the_reader() -> None:
    """It stops what has not started; the others' outcomes still come, and Idle is the last."""
    attempts = Pretended()
    found = made(attempts, ["h", "x", "s1", "s2"], at_once=2)
    events: list[Event] = []
    while not any(isinstance(event, Broken) for event in events):
        events.append(found.events.get(timeout=10))
    attempts.go.set()
    events += until_idle(found)
    (broken,) = [event for event in events if isinstance(event, Broken)]
    assert isinstance(broken.error, ValueError)
    assert ends(events) == [("h", False)]
    assert "s1" not in attempts.made


def test_an_outcome_that_was_not_recorded_keeps_its_container() -> None:
    """The worker's attempt sees the error, and the reader learns of it as an end of the run."""
    attempts = Pretended()
    full = OSError("disk full")
    events = until_idle(
        made(attempts, ["f1", "s2"]), lambda ended: ended.recorded.set_exception(full)
    )
    assert [event.error for event in events if isinstance(event, Broken)] == [full]
    assert attempts.kept == ["0"]
    assert attempts.made == ["f1"]


def test_what_an_earlier_run_left_comes_first() -> None:
    """Its containers run already, whatever else is to be done."""
    attempts = Pretended()
    left = [Running(job=job("s9"), attempt="a", container="c")]
    events = until_idle(made(attempts, ["s1"], left=left))
    assert attempts.made == ["adopted s9", "s1"]
    assert events[0] == Started(left[0].job, "a", "c")


def test_what_an_earlier_run_left_is_seen_to_while_stopping() -> None:
    """Its containers run, started or not by this run: each outcome is waited for."""
    attempts = Pretended()
    left = [Running(job=job(f"h{number}"), attempt=str(number), container="c") for number in "12"]
    found = made(attempts, ["s1"], left=left)
    assert found.stop_starting() == 1
    attempts.go.set()
    assert sorted(ends(until_idle(found))) == [("h1", False), ("h2", False)]


def test_a_lost_one_that_an_earlier_run_left_is_attempted_anew() -> None:
    """The retry of a container that was taken over is a new one for the same job."""
    attempts = Pretended()
    left = [Running(job=job("ls"), attempt="a", container="c")]
    until_idle(made(attempts, [], left=left, retries=2))
    assert attempts.made == ["adopted ls", "ls", "ls"]


def test_many_workers_do_each_job_once() -> None:
    """With more workers than CPUs nothing is done twice or left out, and one Idle comes."""
    attempts = Pretended()
    names = [f"s{number}" for number in range(200)]
    events = until_idle(made(attempts, names, at_once=16))
    assert sorted(attempts.made) == sorted(names)
    assert sum(isinstance(event, Idle) for event in events) == 1


def budget(left: float = 60, **past: float) -> Budget:
    """A budget with so much time left, which does not pass; successes on record by eval."""
    known = [(job(name).command, seconds) for name, seconds in past.items()]
    return Budget(seconds=left, began=0, clock=lambda: 0, past=known)


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
    left = [Running(job=job("s9"), attempt="a", container="c")]
    events = until_idle(made(attempts, ["s1"], left=left, budget=budget(0)))
    assert attempts.made == ["adopted s9"]
    assert unfit(events) == [1]


def test_a_retry_must_fit_too() -> None:
    """Its pause may take the last of the time."""
    attempts = Pretended()
    clock = [0.0]
    found = made(
        attempts, ["l"], retries=5, budget=Budget(seconds=60, began=0, clock=lambda: clock[0])
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
    """Nothing that fits is left out, and nothing is done twice."""
    attempts = Pretended(seconds=1)
    past = {f"s{number}": 99 if number % 3 == 0 else 1.0 for number in range(200)}
    until_idle(made(attempts, list(past), at_once=16, budget=budget(60, **past)))
    assert sorted(attempts.made) == sorted(name for name in past if past[name] == 1)

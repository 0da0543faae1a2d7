"""Attempts that end as a test says, and a schedule of them."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

from runner.engine.leftovers import Running
from runner.model import Attempt, ContainerSettings, Fault, Job, Result
from runner.plan.limits import Budget
from runner.run.schedule import Ended, Event, Idle, Schedule

if TYPE_CHECKING:
    from runner.engine.attempt import Attempts

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
    ) -> Iterator[Attempt]:
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
    ) -> Iterator[Attempt]:
        """Go on with one."""
        self.made.append(f"adopted {running.eval}")
        on_start(running.container)
        yield from self._end(running.job, running.attempt, running.eval[0], on_success)

    def _end(
        self, one: Job, attempt: str, how: str, on_success: Callable[[], None]
    ) -> Iterator[Attempt]:
        if how == "x":
            raise ValueError("unforeseen")
        if how == "h":
            assert self.go.wait(10)
        ends = {"f": (Result.FAILURE, Fault.EVAL), "l": (Result.LOST, Fault.ENVIRONMENT)}
        result, fault = ends.get(how, (Result.SUCCESS, None))
        if result is Result.SUCCESS:
            on_success()
        try:
            yield Attempt(
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
    return [(each.outcome.eval, each.again) for each in events if isinstance(each, Ended)]

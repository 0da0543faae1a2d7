"""Attempts that end as a test says, and a schedule of them."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

from runner.model import Attempt, Command, ContainerSettings, Fault, Job, Result, Task
from runner.plan.cutoffs import TimeBudget
from runner.run.on_this_host import LocalSchedule
from runner.run.schedule import Ended, Event, Idle
from runner.secrets import Mask

if TYPE_CHECKING:
    from runner.engine.attempt import LocalAttempts

SETTINGS = ContainerSettings(
    image="i", memory=1, cpus=None, pids_limit=1, gpus=None, timeout=1, network="none"
)


def job(name: str) -> Job:
    """A job whose eval's name says how its attempts end."""
    command = Command(("oaieval", "m", name))
    return Job(command=command, argv=command, settings=SETTINGS)


class Pretended:
    """Stands in for `LocalAttempts`, whose faults could not be steered.

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
        self.mask = Mask({})
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def run(
        self, task: Task, *, on_start: Callable[[str], None], on_success: Callable[[], None]
    ) -> Iterator[Attempt]:
        """Make an attempt, or continue one."""
        name = task.job.eval
        if task.container:
            how = name[0]
            self.made.append(f"taken_over {name}")
        else:
            with self._lock:
                before = self.made.count(name)
                self.made.append(name)
            how = name[min(before, len(name) - 1)]
        on_start(task.container or f"container of {task.attempt}")
        yield from self._end(task, how, on_success)

    def _end(self, task: Task, how: str, on_success: Callable[[], None]) -> Iterator[Attempt]:
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
                id=task.attempt,
                run="r",
                host="h",
                command=task.job.command,
                eval=task.job.eval,
                result=result,
                fault=fault,
                ended_at="",
                duration=self.seconds,
            )
        except BaseException:
            self.kept.append(task.attempt)
            raise


def made(
    attempts: Pretended,
    names: Sequence[str],
    *,
    at_once: int = 1,
    retries: int = 0,
    left: Sequence[Task] = (),
    budget: TimeBudget | None = None,
) -> LocalSchedule:
    """A started schedule of such jobs."""
    ids = map(str, itertools.count())
    lock = threading.Lock()

    def new_id() -> str:
        with lock:
            return next(ids)

    found = LocalSchedule(
        cast("LocalAttempts", attempts),
        events=SimpleQueue(),
        jobs=[job(name) for name in names],
        started=left,
        at_once=at_once,
        retries=retries,
        new_id=new_id,
        budget=budget,
    )
    found.start()
    return found


def until_idle(found: LocalSchedule, record: Callable[[Ended], None] | None = None) -> list[Event]:
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
    """The ended attempts' evals, and whether each is retried."""
    return [(each.outcome.eval, each.again) for each in events if isinstance(each, Ended)]

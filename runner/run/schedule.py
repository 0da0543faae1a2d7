import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from queue import SimpleQueue
from typing import Protocol

import msgspec

from runner.model import Attempt, Fault, Job, Result, Task
from runner.plan.cutoffs import Budget
from runner.report.display import HostsAway, HostsBack


class Slots:
    """Limits how many evals run at once.

    It can be closed for a while: slots that are taken stay taken, and no other is given out.

    Attributes:
        taken: how many are in use.
        renewing: how many have given theirs back until it opens.
    """

    def __init__(self, at_once: int) -> None:
        self.taken = 0
        self.renewing = 0
        self._at_once = at_once
        self._closed = False
        self._open_for_good = False
        self._changed = threading.Condition()

    def take(self) -> None:
        """Wait for a free slot, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self.taken < self._at_once and not self._closed)
            self.taken += 1

    def take_over(self) -> None:
        """Take a slot for an eval that runs already, even if none is free."""
        with self._changed:
            self.taken += 1

    def give(self) -> None:
        """Give a slot back."""
        with self._changed:
            self.taken -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Give out no slots."""
        with self._changed:
            self._closed = not self._open_for_good

    def open(self) -> None:
        """Give out slots again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def open_for_good(self) -> None:
        """Give out slots from now on, because nothing will start in them."""
        with self._changed:
            self._open_for_good = True
        self.open()

    def renew(self) -> None:
        """Give a slot back while none are given out, and take one again afterwards."""
        with self._changed:
            if not self._closed:
                return
            self.renewing += 1
        self.give()
        self.take()
        with self._changed:
            self.renewing -= 1


# Seconds before the first retry, and the longest pause; each pause is about twice the one before.
FIRST_PAUSE = 1
LONGEST_PAUSE = 60


def pause_before(retry: int) -> float:
    """Seconds before a retry of this number, from 0."""
    most: float = min(FIRST_PAUSE * 2**retry, LONGEST_PAUSE)
    return most * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, hides nothing


class Started(msgspec.Struct, frozen=True):
    """A container runs.

    Attributes:
        host: that it runs on, of a run with several.
    """

    job: Job
    attempt: str
    container: str
    host: str = ""


class Ended(msgspec.Struct, frozen=True):
    """An attempt ended; its container is kept until `recorded` is set.

    Attributes:
        again: whether the job gets another attempt.
        recorded: gets a result once the outcome is on disk, or the exception that prevented it.
    """

    outcome: Attempt
    again: bool
    recorded: Future[None]


class Broken(msgspec.Struct, frozen=True):
    """A worker met an error that ends the run."""

    error: BaseException


class Signalled(msgspec.Struct, frozen=True):
    """The process got a signal."""

    number: int


class Told(msgspec.Struct, frozen=True):
    """Something to tell people."""

    text: str


class Barred(msgspec.Struct, frozen=True):
    """No request to a provider can succeed any more.

    Attributes:
        kind: `budget` if the user's budget is used up; else what is wrong.
        text: one line.
    """

    kind: str
    text: str


class Unfit(msgspec.Struct, frozen=True):
    """Jobs do not fit into what remains of the time budget; put on the queue once."""

    jobs: int
    remaining: float


class Idle(msgspec.Struct, frozen=True):
    """The last worker has nothing more to do: nothing runs and nothing will start."""


Event = Started | Ended | Broken | Signalled | Told | Barred | Unfit | HostsAway | HostsBack | Idle


class Attempts(Protocol):
    """Makes attempts, on this host or elsewhere; the caller need not know."""

    def run(
        self, task: Task, *, on_start: Callable[[str], None], on_success: Callable[[], None]
    ) -> AbstractContextManager[Attempt]:
        """Make an attempt; it counts as recorded once the `with` block ends without an error."""


class Schedule:
    """Runs jobs in order, a fixed number at a time, and tells of each on one queue.

    The workers record nothing: the reader of the queue does, and tells them when it is done. With a
    time budget, a job that does not fit into the rest of it lets later jobs go first.

    Attributes:
        slots: closed to pause.
        budget: the run's time; None for no limit.
        out_of_time: whether a job was left because it did not fit.
    """

    def __init__(
        self,
        attempts: Attempts,
        *,
        events: SimpleQueue[Event],
        jobs: Sequence[Job],
        started: Sequence[Task],
        at_once: int,
        retries: int,
        new_id: Callable[[], str],
        budget: Budget | None = None,
    ) -> None:
        self.events = events
        self.slots = Slots(at_once)
        self._attempts = attempts
        self._started = started
        self._todo = deque(jobs)
        # Twice as many workers as evals at once: while one records and removes a container,
        # another one starts the next.
        self._workers = min(2 * at_once, len(self._todo))
        self._retries = retries
        self._new_id = new_id
        self.budget = budget
        self.out_of_time = False
        self._stopping = threading.Event()
        self._left_out = 0
        self._lock = threading.Lock()
        self._busy = self._workers + len(started)

    def start(self) -> None:
        """Go on with what runs already, and take jobs in order."""
        if not self._busy:
            self.events.put(Idle())
        for task in self._started:
            # It runs already, so that its time limit counts, even if no slot is free.
            self.slots.take_over()
            self._start(partial(self._continue, task))
        for _ in range(self._workers):
            self._start(self._work)

    def stop_starting(self) -> int:
        """Start nothing more; return how many jobs the first call has left."""
        self._stopping.set()
        with self._lock:
            self._left_out += len(self._todo)
            self._todo.clear()
        self.slots.open_for_good()
        return self._left_out

    def _start(self, work: Callable[[], None]) -> None:
        # Daemons: if the reader fails, its error must reach the user while evals still run.
        threading.Thread(target=self._guarded, args=(work,), name="worker", daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the reader decides what it means
            self._stopping.set()
            self.events.put(Broken(error))
        finally:
            with self._lock:
                self._busy -= 1
                last = self._busy == 0
            if last:
                self.events.put(Idle())

    def _continue(self, task: Task) -> None:
        with contextlib.ExitStack() as slot:
            slot.callback(self.slots.give)
            self._bring_to_success(task, slot.close)

    def _work(self) -> None:
        while True:
            with contextlib.ExitStack() as slot:
                self.slots.take()
                slot.callback(self.slots.give)
                job = self._take()
                if job is None:
                    return
                self._bring_to_success(Task(job=job, attempt=self._new_id()), slot.close)

    def _take(self) -> Job | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            for index, job in enumerate(self._todo):
                if self._fits(job):
                    del self._todo[index]
                    return job
            if self._todo:
                self._leave_out(len(self._todo))
            return None

    def _fits(self, job: Job) -> bool:
        return self.budget is None or self.budget.fits(job.command)

    def _leave_out(self, jobs: int) -> None:
        if self.budget and not self.out_of_time:
            self.out_of_time = True
            self.events.put(Unfit(jobs, max(0.0, self.budget.remaining)))

    def _bring_to_success(self, task: Task, on_success: Callable[[], None]) -> None:
        """Attempt a job, and again, after growing pauses, if the environment is at fault.

        A failure keeps its slot until the reader has handled it, because that may stop the run.
        """
        # The attempt of an earlier run does not count as one of this run's.
        retries = self._retries + bool(task.container)
        for retry in range(retries + 1):
            outcome = self._attempt(task, on_success, last=retry == retries)
            if outcome.fault is not Fault.ENVIRONMENT or retry == retries:
                return
            if self._stopping.wait(pause_before(retry)):
                return
            self.slots.renew()
            if self._stopping.is_set():
                return
            with self._lock:
                if not self._fits(task.job):
                    self._leave_out(1)
                    return
            task = Task(job=task.job, attempt=self._new_id())

    def _attempt(self, task: Task, on_success: Callable[[], None], *, last: bool) -> Attempt:
        def tell(container: str) -> None:
            self.events.put(Started(task.job, task.attempt, container))

        # What starts next in its slot must be judged by how long this one took.
        at_once = on_success if self.budget is None else lambda: None
        with self._attempts.run(task, on_start=tell, on_success=at_once) as outcome:
            if self.budget and outcome.result is Result.SUCCESS:
                with self._lock:
                    self.budget.spent(task.job.command, outcome.duration)
                on_success()
            recorded: Future[None] = Future()
            again = outcome.fault is Fault.ENVIRONMENT and not (last or self._stopping.is_set())
            self.events.put(Ended(outcome, again, recorded))
            recorded.result()
        return outcome

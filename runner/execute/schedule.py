import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import msgspec

from runner.execute.attempt import Attempts
from runner.execute.left import Running
from runner.job import Fault, Job, Outcome, Result
from runner.plan.budget import Budget

# Seconds before the first retry and at the most; each pause is about twice the one before.
FIRST_PAUSE = 1
LONGEST_PAUSE = 60


class Started(msgspec.Struct, frozen=True):
    """A container runs."""

    job: Job
    attempt: str
    container: str


class Ended(msgspec.Struct, frozen=True):
    """An attempt ended; its container is kept until `recorded` is set.

    Attributes:
        outcome: how.
        again: whether the job is tried again.
        recorded: to be given a result once the outcome is on disk, or the exception that kept it.
    """

    outcome: Outcome
    again: bool
    recorded: Future[None]


class Broken(msgspec.Struct, frozen=True):
    """A worker met an error that ends the run."""

    error: BaseException


class Signalled(msgspec.Struct, frozen=True):
    """The process got a signal."""

    number: int


class Unfit(msgspec.Struct, frozen=True):
    """So many jobs do not fit in the seconds that are left of the time budget; told once."""

    jobs: int
    left: float


class Idle(msgspec.Struct, frozen=True):
    """The last worker has nothing more to do: nothing runs and nothing will start."""


Event = Started | Ended | Broken | Signalled | Unfit | Idle


class Schedule:
    """Runs jobs in order, a fixed number at a time, and tells of each on one queue.

    The workers record nothing: who reads the queue does, and tells them when it is done. With a
    budget, a job that does not fit in what is left of it lets those behind it go first.

    Attributes:
        out_of_time: whether a job was left out because it did not fit.
    """

    def __init__(
        self,
        attempts: Attempts,
        *,
        jobs: Sequence[Job],
        left: Sequence[Running],
        at_once: int,
        retries: int,
        new_id: Callable[[], str],
        budget: Budget | None = None,
    ) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._attempts = attempts
        self._todo: deque[Job | Running] = deque([*left, *jobs])
        # Twice as many workers as evals at once: while one records and removes what has ended
        # well, another one starts the next.
        self._slots = threading.Semaphore(at_once)
        self._workers = min(2 * at_once, len(self._todo))
        self._retries = retries
        self._new_id = new_id
        self._budget = budget
        self.out_of_time = False
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy = self._workers

    def start(self) -> None:
        """Start the workers."""
        if not self._todo:
            self.events.put(Idle())
        for number in range(self._workers):
            # Daemons: when the reader fails, its error must reach the user though evals run on.
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()

    def stop_starting(self) -> int:
        """Start nothing more, and return how many jobs that leaves out."""
        self._stopping.set()
        with self._lock:
            left_out = [task for task in self._todo if isinstance(task, Job)]
            self._todo = deque(task for task in self._todo if isinstance(task, Running))
        return len(left_out)

    def _work(self) -> None:
        try:
            while self._work_once():
                pass
        except BaseException as error:  # noqa: BLE001 - the reader decides what it means
            self._stopping.set()
            self.events.put(Broken(error))
        finally:
            with self._lock:
                self._busy -= 1
                last = self._busy == 0
            if last:
                self.events.put(Idle())

    def _work_once(self) -> bool:
        """Wait for a slot and do the next task in it; False when there is none."""
        with contextlib.ExitStack() as slot:
            self._slots.acquire()
            slot.callback(self._slots.release)
            task = self._take()
            if task is not None:
                self._bring_to_success(task, slot.close)
            return task is not None

    def _take(self) -> Job | Running | None:
        with self._lock:
            stopping = self._stopping.is_set()
            for index, task in enumerate(self._todo):
                if isinstance(task, Running) or (not stopping and self._fits(task)):
                    del self._todo[index]
                    return task
            if self._todo and not stopping:
                self._leave_out(len(self._todo))
            return None

    def _fits(self, job: Job) -> bool:
        return self._budget is None or self._budget.fits(job.command)

    def _leave_out(self, jobs: int) -> None:
        if self._budget and not self.out_of_time:
            self.out_of_time = True
            self.events.put(Unfit(jobs, max(0.0, self._budget.left)))

    def _bring_to_success(self, task: Job | Running, on_success: Callable[[], None]) -> None:
        """Attempt a job, again after growing pauses where the environment is at fault.

        A failure keeps its slot until the reader knows of it, and may have stopped the rest.
        """
        for retry in range(self._retries + 1):
            outcome = self._attempt(task, on_success, last=retry == self._retries)
            task = outcome.job
            pause = min(FIRST_PAUSE * 2**retry, LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, hides nothing
            if outcome.fault is not Fault.ENVIRONMENT or retry == self._retries:
                return
            if self._stopping.wait(pause):
                return
            with self._lock:
                if not self._fits(task):
                    self._leave_out(1)
                    return

    def _attempt(
        self, task: Job | Running, on_success: Callable[[], None], *, last: bool
    ) -> Outcome:
        if isinstance(task, Running):
            job, attempt = task.job, task.attempt
        else:
            job, attempt = task, self._new_id()

        def tell(container: str) -> None:
            self.events.put(Started(job, attempt, container))

        # What starts next in its slot must be judged by how long this one took.
        at_once = on_success if self._budget is None else _do_nothing
        with (
            self._attempts.adopted(task, tell, at_once)
            if isinstance(task, Running)
            else self._attempts.new(task, attempt, tell, at_once)
        ) as outcome:
            if self._budget and outcome.result is Result.SUCCESS:
                with self._lock:
                    self._budget.spent(job.command, outcome.duration)
                on_success()
            recorded: Future[None] = Future()
            again = outcome.fault is Fault.ENVIRONMENT and not last
            stopping = self._stopping.is_set()
            self.events.put(Ended(outcome, again and not stopping, recorded))
            recorded.result()
        return outcome


def _do_nothing() -> None:
    """The slot is freed later."""

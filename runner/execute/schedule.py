import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import msgspec

from runner.execute.attempt import Attempts, Running
from runner.job import Fault, Job, Outcome

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


class Idle(msgspec.Struct, frozen=True):
    """The last worker has nothing more to do: nothing runs and nothing will start."""


Event = Started | Ended | Broken | Signalled | Idle


class Schedule:
    """Runs jobs in order, a fixed number at a time, and tells of each on one queue.

    The workers record nothing: who reads the queue does, and tells them when it is done.
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
    ) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._attempts = attempts
        self._todo: deque[Job | Running] = deque([*left, *jobs])
        self._at_once = min(at_once, len(self._todo))
        self._retries = retries
        self._new_id = new_id
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy = self._at_once

    def start(self) -> None:
        """Start the workers."""
        if not self._todo:
            self.events.put(Idle())
        for number in range(self._at_once):
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
            while (task := self._take()) is not None:
                self._bring_to_success(task)
        except BaseException as error:  # noqa: BLE001 - the reader decides what it means
            self._stopping.set()
            self.events.put(Broken(error))
        finally:
            with self._lock:
                self._busy -= 1
                last = self._busy == 0
            if last:
                self.events.put(Idle())

    def _take(self) -> Job | Running | None:
        with self._lock:
            if not self._todo or (self._stopping.is_set() and isinstance(self._todo[0], Job)):
                return None
            return self._todo.popleft()

    def _bring_to_success(self, task: Job | Running) -> None:
        """Attempt a job, again after growing pauses where the environment is at fault."""
        for retry in range(self._retries + 1):
            outcome = self._attempt(task, last=retry == self._retries)
            task = outcome.job
            pause = min(FIRST_PAUSE * 2**retry, LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, hides nothing
            if outcome.fault is not Fault.ENVIRONMENT or retry == self._retries:
                return
            if self._stopping.wait(pause):
                return

    def _attempt(self, task: Job | Running, *, last: bool) -> Outcome:
        if isinstance(task, Running):
            job, attempt = task.job, task.attempt
        else:
            job, attempt = task, self._new_id()

        def tell(container: str) -> None:
            self.events.put(Started(job, attempt, container))

        with (
            self._attempts.adopted(task, tell)
            if isinstance(task, Running)
            else self._attempts.new(task, attempt, tell)
        ) as outcome:
            recorded: Future[None] = Future()
            again = outcome.fault is Fault.ENVIRONMENT and not last
            stopping = self._stopping.is_set()
            self.events.put(Ended(outcome, again and not stopping, recorded))
            recorded.result()
        return outcome

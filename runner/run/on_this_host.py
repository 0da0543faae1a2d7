"""This host: what an earlier run has left here, and a schedule of the evals that it runs."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from runner.engine.attempt import LocalAttempts
from runner.engine.engine import Engine, EngineWait, as_environment_fault
from runner.engine.leftovers import Leftover, discard, find_leftovers, sweep
from runner.engine.live import LiveContainer
from runner.engine.run_facts import RunFacts
from runner.host import Host
from runner.model import Attempt, ContainerSettings, Fault, Job, Result, Task
from runner.options import EVAL_NETWORK
from runner.plan.cutoffs import TimeBudget
from runner.plan.plan import Plan
from runner.records.folders import remove_unused
from runner.records.layout import Layout
from runner.run.prepare import Prepared
from runner.run.record import Recorder
from runner.run.schedule import Broken, Ended, Event, Idle, Started, Told, Unfit, pause_before


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


class LocalSchedule:
    """Runs jobs in order on this host, a fixed number at a time: a `Schedule`."""

    def __init__(
        self,
        attempts: LocalAttempts,
        *,
        events: SimpleQueue[Event],
        jobs: Sequence[Job],
        started: Sequence[Task],
        at_once: int,
        retries: int,
        new_id: Callable[[], str],
        budget: TimeBudget | None = None,
    ) -> None:
        self.events = events
        self._slots = Slots(at_once)
        self._attempts = attempts
        self.mask = attempts.mask
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

    @property
    def taken(self) -> int:
        """How many slots are in use."""
        return self._slots.taken

    def pause(self, *, paused: bool) -> None:
        """Give out no slots for a while, or give them out again."""
        if paused:
            self._slots.close()
        else:
            self._slots.open()

    def under_way(self) -> list[LiveContainer]:
        """The containers of attempts under way."""
        return list(self._attempts.live)

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """Signal every running container to end, or kill it; their attempts count as lost."""
        self._attempts.live.end_all(why, kill=kill)

    def follow(self, container: str, tell: Callable[[int, int], None]) -> None:
        """Be told how many samples of an eval are done."""
        self._attempts.follow(container, tell)

    def start(self) -> None:
        """Start the workers."""
        if not self._busy:
            self.events.put(Idle())
        for task in self._started:
            # It runs already, so that its time limit counts, even if no slot is free.
            self._slots.take_over()
            self._start(partial(self._continue, task))
        for _ in range(self._workers):
            self._start(self._work)

    def stop_starting(self) -> int:
        """Start nothing more; return how many jobs the first call has left out."""
        self._stopping.set()
        with self._lock:
            self._left_out = self._left_out or len(self._todo) + self._slots.renewing
            self._todo.clear()
        self._slots.open_for_good()
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
            slot.callback(self._slots.give)
            self._bring_to_success(task, slot.close)

    def _work(self) -> None:
        while True:
            with contextlib.ExitStack() as slot:
                self._slots.take()
                slot.callback(self._slots.give)
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
            self._slots.renew()
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


class LocalHost:
    """This host, with what a run that was killed has left here: the `Hosts` of most runs."""

    names: Sequence[str] = ()

    def __init__(self, prepared: Prepared, host: Host, recorder: Recorder, plan: Plan) -> None:
        self._prepared = prepared
        self._host = host
        self._recorder = recorder
        self._started: list[Task] = []
        self._used = False
        self.others = 0
        self._recover(plan)

    @property
    def engine_root(self) -> Path | None:
        """The data folder of the engine."""
        return Path(self._prepared.engine.info().root)

    @property
    def have_something(self) -> bool:
        """Whether there are containers for the run to take over."""
        return bool(self._started)

    def taken_over(self, jobs: Iterable[Job]) -> set[str]:
        """Evals of these jobs whose containers the run takes over."""
        begun = {task.job.key for task in self._started}
        return {job.eval for job in jobs if job.key in begun}

    def schedule(
        self,
        facts: RunFacts,
        plan: Plan,
        *,
        events: SimpleQueue[Event],
        new_id: Callable[[], str],
        budget: TimeBudget | None,
    ) -> LocalSchedule:
        """Schedule the evals, and those that are taken over before them."""
        self._used = True
        engine, options = self._prepared.engine, self._prepared.options
        if any(job.settings.network == EVAL_NETWORK for job in plan.todo):
            engine.make_eval_network()
        engine_wait = EngineWait(
            engine, limit=options.engine_wait, tell=lambda text: events.put(Told(text))
        )
        begun = {task.job.key for task in self._started}
        return LocalSchedule(
            LocalAttempts(engine, facts, engine_wait),
            events=events,
            jobs=[job for job in plan.todo if job.key not in begun],
            started=self._started,
            at_once=options.jobs or engine.info().cpus,
            retries=options.retries,
            new_id=new_id,
            budget=budget,
        )

    def close(self) -> None:
        """Remove what could not be removed when it was recorded: the engine was away."""
        if self._used:
            prepared = self._prepared
            complete = self._recorder.complete
            sweep(prepared.engine.api, prepared.layout, self._host.name, complete)

    def _recover(self, plan: Plan) -> None:
        """Look for containers that an earlier run left when it was killed.

        Containers are removed if their outcome is on record, if they still run although their job
        is finished, and in any case if the run starts over. It takes over those of jobs that are to
        do. Of the others, those that have ended are recorded, and those that run are counted.
        """
        prepared, host, recorder = self._prepared, self._host, self._recorder
        api = prepared.engine.api
        todo = {job.key: job for job in plan.todo}
        done = {job.key for job in plan.done}
        with as_environment_fault():
            for leftover in find_leftovers(api, prepared.layout, host.name):
                key = leftover.command.key
                if (
                    not prepared.options.resume
                    or recorder.complete(leftover.attempt)
                    or (key in done and leftover.running)
                ):
                    discard(api, leftover)
                elif job := todo.get(key):
                    self._started.append(_task(job, leftover))
                elif leftover.running:
                    self.others += 1
                else:
                    record_ended(prepared.engine, prepared.layout, host, recorder, leftover)
        remove_unused(prepared.layout.root)


# The settings of containers whose own are no longer known; nothing is started with them.
_UNKNOWN = ContainerSettings(
    image="", memory=0, cpus=None, pids_limit=0, gpus=None, timeout=0, network="none"
)


def record_ended(
    engine: Engine, layout: Layout, host: Host, recorder: Recorder, leftover: Leftover
) -> None:
    """Record the outcome of a container that ended while no run looked, and remove it."""
    shared = RunFacts(layout=layout, run=recorder.run, host=host.name)
    job = Job(command=leftover.command, argv=leftover.command, settings=_UNKNOWN)
    engine_wait = EngineWait(engine, limit=0, tell=lambda _: None)
    attempts = LocalAttempts(engine, shared, engine_wait)
    with attempts.run(
        _task(job, leftover), on_start=lambda _: None, on_success=lambda: None
    ) as outcome:
        recorder.record([outcome])


def _task(job: Job, leftover: Leftover) -> Task:
    return Task(
        job=job, attempt=leftover.attempt, container=leftover.container, created=leftover.created
    )

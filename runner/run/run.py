import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from runner.data.lock import add_locks
from runner.engine.attempt import LocalAttempts
from runner.engine.engine import EngineWait
from runner.engine.leftovers import sweep
from runner.engine.run_facts import RunFacts
from runner.errors import EnvironmentFault
from runner.gateway.client import Gateway, end_process
from runner.gateway.messages import Config
from runner.host import Host
from runner.model import Result, Task
from runner.options import EVAL_NETWORK
from runner.plan.cutoffs import Budget
from runner.plan.plan import Plan
from runner.records.layout import keep_dated
from runner.records.lock import run_lock
from runner.records.run_file import write_run_file
from runner.records.state import StateReader
from runner.report.display import Display, tell_before
from runner.report.text import evals
from runner.run.containers import facts_of, with_locks
from runner.run.first_requests import ask_providers, check_answered
from runner.run.loop import Loop, RunResult
from runner.run.pins import check_data, check_pins, pin
from runner.run.prepare import Prepared, environment_for, planned, state_of
from runner.run.record import Recorder, recover
from runner.run.schedule import Barred, Event, Schedule, Signalled, Told
from runner.run.stopping import Disk
from runner.run.unable import find_obstacles

if TYPE_CHECKING:
    from runner.run.host_schedule import HostSchedule
    from runner.run.hosts import RunHosts
    from runner.run.snapshots import RunSnapshots


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    prepared: Prepared,
    host: Host,
    display: Display,
    *,
    new_id: Callable[[], str],
    began: float,
) -> RunResult:
    """Run the evals of a set that are not finished, and record them.

    Args:
        new_id: makes ids of the run and its attempts.
        began: when the time budget began, by `time.monotonic`.

    Raises:
        RunnerError: the run could not start or continue; attempts that had ended are recorded.
    """
    run_id = new_id()
    reader = StateReader()
    # Refuse what cannot work before anything is written.
    state = state_of(prepared, reader)
    plan = planned(prepared, state)
    environment_for(plan, prepared, host)
    if plan.todo:
        check_answered(prepared)
    if not any(
        job.settings.requirements for job in plan.todo
    ):  # else packages have to be chosen first
        fitted = find_obstacles(prepared, plan, host, tell=display.note)
        plan = planned(fitted, state)
        old = not prepared.options.resume and any(map(Path.exists, prepared.layout.kept))
        if old and not plan.todo:  # nothing is set aside for this
            tell_before(display, (*fitted.warnings, *plan.warnings), fitted.obstacles)
            return RunResult(plan=plan, exit_code=int(bool(plan.unable)))
    with (
        run_lock(prepared.layout.lock),
        _gateway(prepared) as gateway,
        _snapshots(prepared, host, display, run=run_id) as snapshots,
    ):
        if snapshots is not None:
            snapshots.resume()
        if not prepared.options.resume:
            end_process(prepared.layout.gateway)
            for path in keep_dated(prepared.layout.kept):
                display.note(f"kept as {path}")
        with Recorder(prepared.layout, run=run_id) as recorder, ExitStack() as stack:
            try:
                one = _Run(prepared, host, display, recorder, reader, gateway=gateway, stack=stack)
                if one.has_work:
                    return one.to_the_end(snapshots, new_id=new_id, began=began)
                if one.pinned.differs or one.unable_differ:
                    write_run_file(prepared.layout, one.pinned.file)
                result = RunResult(plan=one.plan, exit_code=int(bool(one.plan.unable)))
                if snapshots is None:
                    return result
                return msgspec.structs.replace(
                    result, not_pushed=snapshots.end(), snapshot=snapshots.where
                )
            finally:
                display.end()  # before anybody says why it ended


def _gateway(prepared: Prepared) -> "AbstractContextManager[Gateway | None]":
    if not prepared.routes:
        return contextlib.nullcontext()
    config = Config(
        lock=str(prepared.layout.lock),
        routes=prepared.routes,
        answers=str(prepared.layout.answers),
        limits=prepared.limits,
        environment={
            name: value
            for name, value in prepared.environment.items()
            if name.lower().endswith("_proxy")
        },
        offline=prepared.offline,
    )
    return Gateway(prepared.layout, config)


def _snapshots(
    prepared: Prepared, host: Host, display: Display, *, run: str
) -> "AbstractContextManager[RunSnapshots | None]":
    if prepared.options.snapshot is None:
        return contextlib.nullcontext()
    from runner.run.snapshots import snapshots_of  # noqa: PLC0415 - with --snapshot alone

    return snapshots_of(prepared, host, display, run=run)


class _Run:
    """A run with its plan, after people were told about it.

    Attributes:
        taken_over: attempts that an earlier run started, and that this one continues.
        unable_differ: whether the evals that cannot run are not those of the run before.
    """

    def __init__(
        self,
        prepared: Prepared,
        host: Host,
        display: Display,
        recorder: Recorder,
        reader: StateReader,
        *,
        gateway: Gateway | None,
        stack: ExitStack,
    ) -> None:
        self._prepared = prepared
        self._host = host
        self._display = display
        self._recorder = recorder
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._gateway = gateway
        self._schedule: Schedule | HostSchedule | None = None
        self._hosts: RunHosts | None = None
        self.taken_over: list[Task] = []
        state = state_of(prepared, reader)
        plan = planned(prepared, state)
        others = self._recover(plan, stack)
        if recorder.changed:
            state = state_of(prepared, reader)
            plan = planned(prepared, state)
        taken_over = self._begun(plan)
        new = [job for job in plan.todo if job.eval not in taken_over]
        prepared = with_locks(prepared, plan, state.run, host, tell=display.note)
        prepared = self._prepared = find_obstacles(
            prepared, msgspec.structs.replace(plan, todo=tuple(new)), host, tell=display.note
        )
        self._state = state
        self.plan = plan = planned(prepared, state)
        check_data(prepared, plan, state.run)
        self.pinned = pin(prepared, plan, recorder.run, state.run, taken_over)
        repinned = check_pins(prepared, self.pinned)
        self.unable_differ = (state.run and state.run.unable) != self.pinned.file.unable
        warnings = [*prepared.warnings, *plan.warnings, *state.damaged, repinned]
        if others:
            warnings.append(
                f"an earlier run with other arguments has left containers ({others}); "
                "run that again to take them over, or `evalset clean` to remove them"
            )
        self._continued = len(taken_over)
        self._tell(warnings)

    def _recover(self, plan: Plan, stack: ExitStack) -> int:
        """Continue what earlier runs left; return how many containers are of other arguments."""
        prepared, recorder = self._prepared, self._recorder
        if not prepared.options.hosts:
            self.taken_over, others = recover(prepared, self._host, recorder, plan)
            return others
        if not (plan.todo or _left_on_hosts(prepared)):
            return 0
        from runner.run import hosts  # noqa: PLC0415 - with --hosts alone

        self._hosts = hosts.RunHosts(
            prepared, self._host, self._display, run=recorder.run, complete=recorder.complete
        )
        stack.callback(self._hosts.close, recorder.complete)
        return self._hosts.others(plan)

    def _tell(self, warnings: Iterable[str]) -> None:
        """Tell people what they should know, and what is about to run."""
        display, plan = self._display, self.plan
        tell_before(display, warnings, self._prepared.obstacles)
        display.begin(
            total=len(plan.jobs),
            done=len(plan.done),
            todo=len(plan.todo),
            hosts=self._hosts.names if self._hosts is not None else (),
        )

    @property
    def has_work(self) -> bool:
        """Whether something is to be run, or of an earlier run to be recorded."""
        left = self._hosts is not None and self._hosts.have_something
        return bool(self.plan.todo or self.taken_over or left)

    def _begun(self, plan: Plan) -> set[str]:
        """Evals that an earlier run has begun, and that this one continues."""
        if self._hosts is not None:
            return self._hosts.taken_over(plan.todo)
        return {task.job.eval for task in self.taken_over}

    def to_the_end(
        self, snapshots: "RunSnapshots | None", *, new_id: Callable[[], str], began: float
    ) -> RunResult:
        """Run until nothing runs any more, then take the last snapshot, whatever ended the run."""
        prepared = self._prepared
        options, engine = prepared.options, prepared.engine
        root = engine.info().root if self._hosts is None else os.devnull
        disk = Disk(prepared.layout, root, least=options.min_free_disk)
        if not self._continued and (short := disk.short()):
            raise EnvironmentFault(f"no eval was started: {disk.about(short)}")
        self._start_gateway()
        attempts, schedule = self._scheduled(new_id, self._budget(began))
        self._schedule = schedule
        pinned = {job.eval for job in self.plan.whole} & prepared.data.keys()
        add_locks(prepared.layout.data, [prepared.data[name].lock for name in sorted(pinned)])
        write_run_file(prepared.layout, self.pinned.file)
        if snapshots is not None:
            snapshots.begin()
        if self._continued:
            self._display.note(f"continues {evals(self._continued)} of an earlier run")
        loop = Loop(
            prepared,
            self._display,
            attempts,
            schedule,
            self._recorder,
            disk=disk,
            snapshots=snapshots,
        )
        with _signals(self._events):
            schedule.start()
            try:
                return self._with_last_snapshot(loop, snapshots)
            finally:
                if self._hosts is None:
                    sweep(engine.api, prepared.layout, self._host.name, self._recorder.complete)

    def _with_last_snapshot(self, loop: Loop, snapshots: "RunSnapshots | None") -> RunResult:
        if snapshots is None:
            return loop.until_idle(self.plan)

        def interrupted() -> bool:
            """Whether a second signal came, which ends a push as well."""
            with contextlib.suppress(Empty):
                while True:
                    if isinstance(self._events.get_nowait(), Signalled):
                        loop.stopping.signalled_again = True
            return loop.stopping.signalled_again

        try:
            result = loop.until_idle(self.plan)
        except BaseException:
            if problem := snapshots.end(interrupted):
                self._display.warn(problem)
            raise
        problem = snapshots.end(interrupted)
        return msgspec.structs.replace(result, not_pushed=problem, snapshot=snapshots.where)

    def _start_gateway(self) -> None:
        """Ask the provider before any eval does, then start the gateway."""
        if self._gateway is None:
            return
        prepared = self._prepared
        if not prepared.offline and not self._continued:
            ask_providers(prepared, self._gateway, warn=self._warn)
        self._gateway.tell = self._bar
        self._gateway.warn = self._warn
        self._gateway.start()

    def _warn(self, text: str) -> None:
        self._events.put(Told(text))

    def _bar(self, kind: str, text: str) -> None:
        """No request can succeed any more: nothing is started, and nothing retried."""
        if self._schedule is not None:
            self._schedule.stop_starting()
        self._events.put(Barred(kind, text))

    def _scheduled(
        self, new_id: Callable[[], str], budget: Budget | None
    ) -> "tuple[LocalAttempts | HostSchedule, Schedule | HostSchedule]":
        """What makes attempts, and what decides when."""
        options = self._prepared.options
        shared = facts_of(
            self._prepared,
            self.plan,
            self._host,
            run=self._recorder.run,
            gateway=self._gateway,
            tell=self._display.note,
        )
        if self._hosts is not None:
            hosts = self._hosts.schedule(
                shared,
                self.plan,
                events=self._events,
                gateway=self._gateway,
                on_record=self._recorder.has,
                new_id=new_id,
                budget=budget,
                samples=self._display.wants_samples,
            )
            return hosts, hosts
        taken_over = {task.job.key for task in self.taken_over}
        attempts = self._attempts(shared)
        return attempts, Schedule(
            attempts,
            events=self._events,
            jobs=[job for job in self.plan.todo if job.key not in taken_over],
            started=self.taken_over,
            at_once=options.jobs or self._prepared.engine.info().cpus,
            retries=options.retries,
            new_id=new_id,
            budget=budget,
        )

    def _attempts(self, shared: RunFacts) -> LocalAttempts:
        prepared, plan = self._prepared, self.plan
        engine = prepared.engine
        if any(job.settings.network == EVAL_NETWORK for job in plan.todo):
            engine.make_eval_network()
        engine_wait = EngineWait(
            engine,
            limit=prepared.options.engine_wait,
            tell=lambda text: self._events.put(Told(text)),
        )
        return LocalAttempts(engine, shared, engine_wait)

    def _budget(self, began: float) -> Budget | None:
        seconds = self._prepared.options.time_budget
        if seconds is None:
            return None
        successes = (each for each in self._state.attempts if each.result is Result.SUCCESS)
        past = [(each.command, each.duration) for each in successes]
        return Budget(seconds=seconds, began=began, clock=time.monotonic, past=past)


def _left_on_hosts(prepared: Prepared) -> bool:
    """Whether hosts may have something of an earlier run."""
    from runner.hosts.ledger import read_ledger  # noqa: PLC0415 - with --hosts alone

    return bool(read_ledger(prepared.layout).started)


@contextlib.contextmanager
def _signals(queue: SimpleQueue[Event]) -> Iterator[None]:
    """Turn signals into events; only the main thread of a process may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A handler runs between two steps of the main thread, which `SimpleQueue.put` allows.
    before = {
        number: signal.signal(number, lambda number, _: queue.put(Signalled(number)))
        for number in SIGNALS
        # Where it is ignored, as under `nohup`, the run is meant to continue.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

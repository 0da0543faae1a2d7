import contextlib
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
from runner.errors import EnvironmentFault
from runner.gateway.client import Gateway, end_process
from runner.gateway.messages import Config
from runner.gateway.providers import route_of
from runner.host import KEYLESS_MODEL, Host
from runner.model import Problem, Result
from runner.plan.cutoffs import TimeBudget
from runner.plan.plan import Plan
from runner.records.layout import keep_dated
from runner.records.run_file import write_run_file
from runner.records.run_lock import run_lock
from runner.records.state import StateReader
from runner.report.display import Display, tell_before
from runner.report.text import evals
from runner.run.containers import facts_of, with_locks
from runner.run.loop import Loop, RunResult
from runner.run.on_this_host import LocalHost
from runner.run.pinning import check_data, check_pins, pin
from runner.run.prepare import Prepared, environment_for, planned, state_of
from runner.run.record import Recorder
from runner.run.schedule import Barred, Event, Hosts, Schedule, Signalled, Told
from runner.run.stopping import Disk
from runner.run.unable import find_obstacles

if TYPE_CHECKING:
    from runner.run.background_snapshots import RunSnapshots


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    prepared: Prepared,
    host: Host,
    display: Display,
    *,
    reader: StateReader,
    new_id: Callable[[], str],
    began: float,
) -> RunResult:
    """Run the evals of a set that are not finished, and record them.

    Args:
        reader: of the progress directory.
        new_id: makes ids of the run and its attempts.
        began: when the time budget began, by `time.monotonic`.

    Raises:
        RunnerError: the run could not start or continue; attempts that had ended are recorded.
    """
    run_id = new_id()
    # Refuse what cannot work before anything is written.
    state = state_of(prepared, reader)
    plan = planned(prepared, state)
    environment_for(plan, prepared, host)
    if plan.todo:
        _check_answered(prepared)
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
        with Recorder(prepared.layout, run=run_id, reader=reader) as recorder, ExitStack() as stack:
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
    from runner.run.background_snapshots import snapshots_of  # noqa: PLC0415 - with --snapshot alone

    return snapshots_of(prepared, host, display, run=run)


class _Run:
    """A run with its plan, after people were told about it.

    Attributes:
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
        self._schedule: Schedule | None = None
        state = state_of(prepared, reader)
        plan = planned(prepared, state)
        self._hosts = _hosts(prepared, host, display, recorder, plan)
        stack.callback(self._hosts.close)
        if recorder.changed:
            state = state_of(prepared, reader)
            plan = planned(prepared, state)
        taken_over = self._hosts.taken_over(plan.todo)
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
        if others := self._hosts.others:
            warnings.append(
                f"an earlier run with other arguments has left containers ({others}); "
                "run that again to take them over, or `evalset clean` to remove them"
            )
        self._continued = len(taken_over)
        self._tell(warnings)

    def _tell(self, warnings: Iterable[str]) -> None:
        """Tell people what they should know, and what is about to run."""
        display, plan = self._display, self.plan
        tell_before(display, warnings, self._prepared.obstacles)
        display.begin(
            total=len(plan.jobs),
            done=len(plan.done),
            todo=len(plan.todo),
            hosts=self._hosts.names,
        )

    @property
    def has_work(self) -> bool:
        """Whether something is to be run, or of an earlier run to be recorded."""
        return bool(self.plan.todo) or self._hosts.have_something

    def to_the_end(
        self, snapshots: "RunSnapshots | None", *, new_id: Callable[[], str], began: float
    ) -> RunResult:
        """Run until nothing runs any more, then take the last snapshot, whatever ended the run."""
        prepared = self._prepared
        least = prepared.options.min_free_disk
        disk = Disk(prepared.layout, self._hosts.engine_root, least=least)
        if not self._continued and (short := disk.short()):
            raise EnvironmentFault(f"no eval was started: {disk.about(short)}")
        self._start_gateway()
        schedule = self._schedule = self._scheduled(new_id, self._budget(began))
        pinned = {job.eval for job in self.plan.whole} & prepared.data.keys()
        add_locks(prepared.layout.data, [prepared.data[name].lock for name in sorted(pinned)])
        write_run_file(prepared.layout, self.pinned.file)
        if snapshots is not None:
            snapshots.begin()
        if self._continued:
            self._display.note(f"continues {evals(self._continued)} of an earlier run")
        loop = Loop(
            prepared, self._display, schedule, self._recorder, disk=disk, snapshots=snapshots
        )
        with _signals(self._events):
            schedule.start()
            return self._with_last_snapshot(loop, snapshots)

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
            _ask_providers(prepared, self._gateway, warn=self._warn)
        self._gateway.tell = self._bar
        self._gateway.warn = self._warn
        self._gateway.start()

    def _warn(self, text: str) -> None:
        self._events.put(Told(text))

    def _bar(self, kind: Problem, text: str) -> None:
        """No request can succeed any more: nothing is started, and nothing retried."""
        if self._schedule is not None:
            self._schedule.stop_starting()
        self._events.put(Barred(kind, text))

    def _scheduled(self, new_id: Callable[[], str], budget: TimeBudget | None) -> Schedule:
        facts = facts_of(
            self._prepared,
            self.plan,
            self._host,
            run=self._recorder.run,
            gateway=self._gateway,
            tell=self._display.note,
        )
        return self._hosts.schedule(
            facts, self.plan, events=self._events, new_id=new_id, budget=budget
        )

    def _budget(self, began: float) -> TimeBudget | None:
        seconds = self._prepared.options.time_budget
        if seconds is None:
            return None
        successes = (each for each in self._state.attempts if each.result is Result.SUCCESS)
        past = [(each.command, each.duration) for each in successes]
        return TimeBudget(seconds=seconds, began=began, clock=time.monotonic, past=past)


def _hosts(
    prepared: Prepared, host: Host, display: Display, recorder: Recorder, plan: Plan
) -> Hosts:
    """Where the evals run. Nothing else asks whether that is this host."""
    if prepared.options.hosts:
        from runner.hosts.ledger import read_ledger  # noqa: PLC0415 - with --hosts alone
        from runner.run.hosts import RunHosts  # noqa: PLC0415 - as above

        if plan.todo or read_ledger(prepared.layout).started:
            return RunHosts(prepared, host, display, recorder, plan)
    return LocalHost(prepared, host, recorder, plan)


def _check_answered(prepared: Prepared) -> None:
    """Refuse a run whose evals would ask nobody."""
    models = ", ".join(prepared.models_without_provider)
    if not models:
        return
    if not prepared.routes:
        raise EnvironmentFault(
            f"no key or address of a provider is set, so requests for {models} have nowhere to go",
            "export OPENAI_API_KEY, or the variables of another provider",
        )
    others = ", ".join(sorted(prepared.routes))
    raise EnvironmentFault(
        f"evals ask OpenAI's API for {models}, and what is set up does not answer there: {others}",
        "export OPENAI_API_KEY, or name a server of that API with --upstream openai=URL",
    )


def _ask_providers(prepared: Prepared, gateway: Gateway, *, warn: Callable[[str], None]) -> None:
    """Ask all providers whose address was named, and those that have the model.

    Args:
        warn: is told of one that this run may not need, from another thread and when that is known.

    Raises:
        EnvironmentFault: one that has the model, or that `--upstream` names, does not answer.
    """
    routes = prepared.routes
    models = () if prepared.model_is_code else prepared.options.model.split(",")
    asked: dict[str, set[str]] = {each.name: set() for each in prepared.options.upstreams}
    for model in {*models} - {KEYLESS_MODEL}:
        route = route_of(model, routes)
        if route is not None:
            named = asked.setdefault(route.name, set())
            named |= set() if prepared.resolution.defines_model else {model}
    gateway.check(
        [(routes[name], model) for name in sorted(asked) for model in sorted(asked[name]) or [""]]
    )
    others = [each for each in routes.values() if each.is_named and each.name not in asked]
    gateway.check_later(others, warn)


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

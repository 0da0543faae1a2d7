import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from runner.engine.attempt import Attempts, Surroundings
from runner.engine.engine import EVAL_NETWORK, Absence
from runner.engine.leftovers import Running, sweep
from runner.host import Host
from runner.image.image import find_image
from runner.model import Result
from runner.plan.limits import Budget
from runner.plan.pins import RunFile
from runner.plan.plan import Plan
from runner.records.attempts import read_attempts
from runner.records.layout import keep_dated
from runner.records.lock import RunLock
from runner.records.run_file import write_run_file
from runner.report.display import Display
from runner.report.text import evals
from runner.run.disk import Disk, require_room
from runner.run.loop import Loop, RunResult
from runner.run.pins import check_pins, pin
from runner.run.prepare import Prepared, environment_for, kept_out, planned
from runner.run.record import Recorder
from runner.run.recover import recover
from runner.run.schedule import Event, Schedule, Signalled, Told

if TYPE_CHECKING:
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
    """Run what is left of an eval set, and record it.

    Args:
        prepared: the run.
        host: the machine.
        display: shows the run to people.
        new_id: makes ids of the run and its attempts.
        began: from when the time budget counts, by `time.monotonic`.

    Raises:
        RunnerError: the run could not start or go on; what had ended is recorded.
    """
    run_id = new_id()
    plan, _ = planned(prepared)  # refuses what cannot be before anything is written
    environment_for(plan, prepared, host)  # as above
    with (
        RunLock(prepared.layout.lock),
        _snapshots(prepared, host, display, run=run_id) as snapshots,
    ):
        if snapshots is not None:
            snapshots.go_on()
        if not prepared.options.resume:
            keep_dated(prepared.layout.kept)
        with Recorder(prepared.layout, run=run_id, host=host.name) as recorder:
            return _run(
                prepared,
                host,
                display,
                recorder,
                snapshots=snapshots,
                run_id=run_id,
                new_id=new_id,
                began=began,
            )


def _snapshots(
    prepared: Prepared, host: Host, display: Display, *, run: str
) -> "AbstractContextManager[RunSnapshots | None]":
    if prepared.options.snapshot is None:
        return contextlib.nullcontext()
    from runner.run.snapshots import snapshots_of  # noqa: PLC0415 - with --snapshot alone

    environment = kept_out(prepared, host)
    return snapshots_of(prepared, host, display, run=run, environment=environment)


def _run(
    prepared: Prepared,
    host: Host,
    display: Display,
    recorder: Recorder,
    *,
    snapshots: "RunSnapshots | None",
    run_id: str,
    new_id: Callable[[], str],
    began: float,
) -> RunResult:
    plan, left, pinned, repinned = _begin(prepared, host, display, recorder, run_id)
    if not plan.todo and not left:
        if repinned:
            write_run_file(prepared.layout, pinned)
        problem = snapshots.end() if snapshots is not None else ""
        return RunResult(plan=plan, not_pushed=problem, snapshot=_where(snapshots))
    events: SimpleQueue[Event] = SimpleQueue()
    disk = Disk(prepared.layout, prepared.engine.info().root, least=prepared.options.min_free_disk)
    if not left:
        require_room(disk)
    attempts = _attempts(prepared, host, plan, run_id, events)
    budget = _budget(prepared, began)
    adopted = {running.job.key for running in left}
    schedule = Schedule(
        attempts,
        events=events,
        jobs=[job for job in plan.todo if job.key not in adopted],
        left=left,
        at_once=prepared.options.jobs or prepared.engine.info().cpus,
        retries=prepared.options.retries,
        new_id=new_id,
        budget=budget,
    )
    write_run_file(prepared.layout, pinned)
    if snapshots is not None:
        snapshots.begin()
    if left:
        display.note(f"goes on with {evals(len(left))} of an earlier run")
    loop = Loop(
        prepared,
        display,
        attempts,
        schedule,
        recorder,
        disk=disk,
        on_record=snapshots.changed if snapshots is not None else _nothing,
        on_stopping=snapshots.hurry if snapshots is not None else _nothing,
        budget=budget,
    )
    with _signals(events):
        schedule.start()
        try:
            return _to_the_end(loop, plan, events, display, snapshots=snapshots)
        finally:
            sweep(prepared.engine.api, prepared.layout, host.name, recorder.complete)


def _begin(
    prepared: Prepared, host: Host, display: Display, recorder: Recorder, run_id: str
) -> tuple[Plan, list[Running], RunFile, str]:
    """Find out what is left to do, and say so.

    Returns:
        The plan, containers to go on with, what the run is pinned to, and whether that changes
        what finished evals were pinned to, in words.
    """
    plan, damaged = planned(prepared)
    left, others = recover(prepared, host, recorder, plan)
    if recorder.changed:
        plan, damaged = planned(prepared)
    pinned = pin(prepared, plan, run_id, {each.job.eval for each in left})
    repinned = check_pins(prepared, pinned)
    warnings = (*prepared.warnings, *plan.warnings, *damaged, pinned.problem, repinned)
    for warning in filter(None, (*warnings, _about(others))):
        display.warn(warning)
    display.begin(total=len(plan.jobs), done=len(plan.done), todo=len(plan.todo))
    return plan, left, pinned.file, repinned


def _to_the_end(
    loop: Loop,
    plan: Plan,
    events: SimpleQueue[Event],
    display: Display,
    *,
    snapshots: "RunSnapshots | None",
) -> RunResult:
    """Go on until nothing runs, and take the last snapshot, whatever ended the run."""
    try:
        result = loop.until_idle(plan)
    except BaseException:
        if problem := _last_snapshot(snapshots, loop, events):
            display.warn(problem)
        raise
    problem = _last_snapshot(snapshots, loop, events)
    return msgspec.structs.replace(result, not_pushed=problem, snapshot=_where(snapshots))


def _about(others: int) -> str:
    if not others:
        return ""
    return (
        f"an earlier run with other arguments has left containers ({others}); "
        "run that again to take them in, or `evalset clean` to remove them"
    )


def _where(snapshots: "RunSnapshots | None") -> str:
    return snapshots.where if snapshots is not None else ""


def _last_snapshot(snapshots: "RunSnapshots | None", loop: Loop, events: SimpleQueue[Event]) -> str:
    """Take it; a second signal ends what keeps the remote busy."""

    def interrupted() -> bool:
        with contextlib.suppress(Empty):
            while True:
                if isinstance(events.get_nowait(), Signalled):
                    loop.stopping.signalled_again = True
        return loop.stopping.signalled_again

    return snapshots.end(interrupted) if snapshots is not None else ""


def _nothing() -> None:
    pass


def _attempts(
    prepared: Prepared, host: Host, plan: Plan, run_id: str, events: SimpleQueue[Event]
) -> Attempts:
    """What makes the attempts."""
    default = prepared.options.settings.image
    names = {job.settings.image for job in plan.jobs} - {default}
    images = {name: find_image(prepared.engine.api, name).id for name in names}
    info = prepared.engine.info()
    surroundings = Surroundings(
        layout=prepared.layout,
        run=run_id,
        host=host.name,
        images=images | {default: prepared.image.id},
        registries=prepared.mounts,
        environment=environment_for(plan, prepared, host),
        user="0:0" if info.rootless else host.user,
        cpus=info.cpus,
    )
    if any(job.settings.network == EVAL_NETWORK for job in plan.todo):
        prepared.engine.make_eval_network()
    absence = Absence(
        prepared.engine,
        limit=prepared.options.engine_wait,
        tell=lambda text: events.put(Told(text)),
    )
    return Attempts(prepared.engine, surroundings, absence)


def _budget(prepared: Prepared, began: float) -> Budget | None:
    """The run's time, and what is on record of the time that evals take."""
    seconds = prepared.options.time_budget
    if seconds is None:
        return None
    records = read_attempts(prepared.layout.attempts).records
    past = [(each.command, each.duration) for each in records if each.result is Result.SUCCESS]
    return Budget(seconds=seconds, began=began, clock=time.monotonic, past=past)


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
        # Who has it ignored, as `nohup` does, wants the run to go on.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

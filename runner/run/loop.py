import contextlib
from collections.abc import Sequence
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING

import msgspec

from runner.errors import OUT_OF_TIME, EnvironmentFault, RunnerError
from runner.model import Attempt, Fault, Job, Problem, Result
from runner.plan.cutoffs import Streak
from runner.plan.plan import Plan
from runner.records.logs import has_text, last_lines
from runner.report.display import Display, HostsAway, HostsBack
from runner.report.text import duration, evals
from runner.run.prepare import Prepared
from runner.run.record import Recorder
from runner.run.schedule import (
    Barred,
    Broken,
    Ended,
    Event,
    Idle,
    Schedule,
    Signalled,
    Started,
    Told,
    Unfit,
)
from runner.run.stopping import Disk, DiskWatch, Stopping, UsedUp

if TYPE_CHECKING:
    from runner.run.background_snapshots import RunSnapshots

# Lines of what an eval printed that tell whether two failed alike.
LAST_LINES = 5


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        outcomes: the last one of each job that was attempted.
        not_pushed: why the last snapshot is not on the remote, on one line; empty if it is.
        snapshot: where the last snapshot is; empty if there is none.
        not_run: how many evals have not run, if the exit code says that time or money ran out.
        used_up: what ran out.
        in_common: why the run was ended, if evals failed alike in a row; else empty.
    """

    plan: Plan
    outcomes: tuple[Attempt, ...] = ()
    exit_code: int = 0
    not_pushed: str = ""
    snapshot: str = ""
    not_run: int = 0
    used_up: UsedUp = UsedUp.TIME
    in_common: str = ""


class Loop:
    """Reads the schedule's events until nothing runs; records and shows them, and reacts.

    Attributes:
        stopping: why the run ends before its plan does.
    """

    def __init__(
        self,
        prepared: Prepared,
        display: Display,
        schedule: Schedule,
        recorder: Recorder,
        *,
        disk: Disk,
        snapshots: "RunSnapshots | None",
    ) -> None:
        self._prepared = prepared
        self._display = display
        self._schedule = schedule
        self._recorder = recorder
        self._snapshots = snapshots
        self._outcomes: dict[str, Attempt] = {}
        self._done: frozenset[str] = frozenset()
        self.stopping = Stopping(
            schedule=schedule,
            display=display,
            grace=prepared.options.grace,
            on_stopping=snapshots.hurry if snapshots is not None else lambda: None,
        )
        DiskWatch(disk=disk, schedule=schedule, display=display, stopping=self.stopping).look()
        self._streak = Streak(prepared.options.max_failures)
        self._in_common = ""

    def until_idle(self, plan: Plan) -> RunResult:
        """React until the last worker has nothing more to do."""
        if budget := self._schedule.budget:
            self.stopping.deadlines.after(budget.remaining, self.stopping.run_out_of_time)
        self._done = frozenset(job.key for job in plan.done)
        idle = False
        try:
            while not idle and not self.stopping.let_go:
                events = self._next_events()
                self._record([event for event in events if isinstance(event, Ended)])
                for event in events:
                    self._react(event)
                idle = any(isinstance(event, Idle) for event in events)
        finally:
            self._display.end()
        if self.stopping.error is not None:
            raise self.stopping.error
        code = self._exit_code(plan)
        return RunResult(
            plan=plan,
            outcomes=tuple(self._outcomes.values()),
            exit_code=code,
            not_run=self._not_run(plan) if code == OUT_OF_TIME else 0,
            used_up=self.stopping.used_up or UsedUp.TIME,
            in_common=self._in_common,
        )

    def _next_events(self) -> list[Event]:
        queue, deadlines = self._schedule.events, self.stopping.deadlines
        events: list[Event] = []
        with contextlib.suppress(Empty):
            events.append(queue.get(timeout=deadlines.pause))
            while True:
                events.append(queue.get_nowait())
        deadlines.act()
        return events

    def _record(self, ended: Sequence[Ended]) -> None:
        if not ended:
            return
        try:
            self._recorder.record([event.outcome for event in ended])
        except RunnerError as error:
            for event in ended:
                event.recorded.set_exception(error)
            self.stopping.break_off(error)
        else:
            if self._snapshots is not None:
                self._snapshots.changed()

    def _react(self, event: Event) -> None:
        match event:
            case Ended(outcome, again, recorded):
                if not recorded.done():
                    self._take_in(outcome, again=again)
                    # Only now may a failure's slot be used again, because the run may have to stop.
                    recorded.set_result(None)
            case Broken(error):
                self.stopping.break_off(error)
            case Signalled(number):
                self.stopping.interrupt(number)
            case Barred(kind, text):
                self._bar(kind, text)
            case _:
                self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case Started(job, _, container, host):
                self._show_started(job, container, host)
            case Told(text):
                self._display.warn(text)
            case Unfit(jobs, seconds):
                verb = "does" if jobs == 1 else "do"
                self._display.note(
                    f"{evals(jobs)} {verb} not fit in the {duration(seconds)} that are left of the "
                    "time budget"
                )
            case HostsAway():
                self._display.away(event)
            case HostsBack():
                self._display.back(event)
            case _:
                pass

    def _show_started(self, job: Job, container: str, host: str) -> None:
        self._display.started(job, host)
        if self._display.wants_samples:
            self._schedule.follow(
                container, lambda samples, of: self._display.progressed(job, samples, of)
            )

    def _bar(self, kind: Problem, text: str) -> None:
        """End the run because no request can succeed any more."""
        if kind is Problem.BUDGET:
            self.stopping.run_out_of_money(text)
        else:
            self.stopping.break_off(EnvironmentFault(text))

    def _take_in(self, outcome: Attempt, *, again: bool) -> None:
        # A report may be large, and there may be thousands.
        self._outcomes[outcome.command.key] = msgspec.structs.replace(outcome, final_report=None)
        failed = outcome.result is not Result.SUCCESS
        tail: tuple[str, ...] = ()
        if failed and outcome.console_log:
            path = self._prepared.layout.root / outcome.console_log
            where = str(_from_here(path)) if has_text(path) else None
            outcome = msgspec.structs.replace(outcome, console_log=where)
            # What an eval prints because it was stopped helps nobody.
            stopped = outcome.result is Result.LOST and self.stopping.begun
            lines = () if stopped else last_lines(path, self._display.tail_lines)
            if lines:
                tail = tuple(self._schedule.mask.text("\n".join(lines)).split("\n"))
        # The run before was killed while it recorded one that the plan has as done.
        if failed or outcome.command.key not in self._done:
            self._display.ended(outcome, again=again, tail=tail)
        if not failed:
            self._streak.success()
        elif not again and not self.stopping.begun:
            self._after_failure(outcome, tail[-LAST_LINES:])

    def _after_failure(self, outcome: Attempt, tail: Sequence[str]) -> None:
        if self._streak.failure(outcome.reason, tail, seconds=outcome.duration):
            not_started = self._schedule.stop_starting()
            last = f": {tail[-1]}" if tail else ""
            so = f", so {not_started} more not started" if not_started else ""
            self._in_common = (
                f"{evals(self._streak.count)} in a row failed alike ({outcome.reason}{last}){so}; "
                "fix that and run the same command again "
                "(--max-failures 0 continues whatever fails)"
            )
            self._display.warn(self._in_common)
            for line in tail:
                self._display.note(f"    | {line}")
        elif self._prepared.options.exit_on_error and (
            not_started := self._schedule.stop_starting()
        ):
            self._display.note(
                f"stopping at the first failure; {not_started} not started "
                "(--no-exit-on-error continues)"
            )

    def _not_run(self, plan: Plan) -> int:
        outcomes = self._outcomes.values()
        done = {each.command.key for each in outcomes if each.result is Result.SUCCESS}
        return sum(job.key not in done for job in plan.todo)

    def _exit_code(self, plan: Plan) -> int:
        if self.stopping.signal is not None:
            return 128 + self.stopping.signal
        outcomes = self._outcomes.values()
        faults = {each.fault for each in outcomes if each.result is not Result.SUCCESS}
        if Fault.EVAL in faults:
            return 1
        if (self.stopping.used_up or self._schedule.out_of_time) and self._not_run(plan):
            return OUT_OF_TIME
        return EnvironmentFault.exit_code if faults else int(bool(plan.unable))


def _from_here(path: Path) -> Path:
    """A path as one would type it in the folder where the run was started, if it is below it."""
    with contextlib.suppress(
        ValueError, FileNotFoundError
    ):  # the current folder may have been removed
        return path.relative_to(Path.cwd())
    return path

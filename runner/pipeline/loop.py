import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from queue import Empty

import msgspec

from runner.errors import OUT_OF_TIME, EnvironmentFault, RunnerError
from runner.execute.attempt import Attempts
from runner.execute.container import STOP_TIME
from runner.execute.samples import follow_samples
from runner.execute.schedule import (
    Broken,
    Ended,
    Event,
    Idle,
    Schedule,
    Signalled,
    Started,
    Unfit,
)
from runner.job import Fault, Outcome, Result
from runner.pipeline.prepare import Prepared
from runner.pipeline.recorder import Recorder
from runner.plan.budget import Budget
from runner.plan.plan import Plan
from runner.record import console_log
from runner.report.display import Display
from runner.report.text import duration, evals

# Seconds; Python waits for no more than some centuries, and a budget may be longer.
LONGEST_WAIT = 86400.0


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        plan: what it set out to do.
        outcomes: the last one of each job that was attempted.
        exit_code: for the process.
        not_pushed: why the last snapshot is missing on the branch, on one line; empty if it is not.
        snapshot: where the last snapshot is; empty if there is none.
        left_for_time: how many evals are left where the exit code says that time ran out.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    exit_code: int = 0
    not_pushed: str = ""
    snapshot: str = ""
    left_for_time: int = 0


class Loop:
    """Reads the schedule's events until nothing runs: records, shows, and reacts to signals.

    Attributes:
        signalled_again: whether a second signal came.
    """

    def __init__(
        self,
        prepared: Prepared,
        display: Display,
        attempts: Attempts,
        schedule: Schedule,
        recorder: Recorder,
        *,
        on_record: Callable[[], None],
        on_stopping: Callable[[], None],
        budget: Budget | None = None,
    ) -> None:
        self._prepared = prepared
        self._display = display
        self._attempts = attempts
        self._schedule = schedule
        self._recorder = recorder
        self._on_record = on_record
        self._on_stopping = on_stopping
        self._budget = budget
        self._time_over = False
        self._outcomes: dict[str, Outcome] = {}
        self._signal: int | None = None
        self.signalled_again = False
        self._error: BaseException | None = None
        self._deadlines: list[tuple[float, Callable[[], None]]] = []

    def until_idle(self, plan: Plan) -> RunResult:
        """Go on until the last worker has nothing more to do."""
        if self._budget:
            self._at(time.monotonic() + self._budget.left, self._run_out_of_time)
        idle = False
        try:
            while not idle:
                events = self._next_events()
                self._record([event for event in events if isinstance(event, Ended)])
                for event in events:
                    self._react(event)
                idle = any(isinstance(event, Idle) for event in events)
        finally:
            self._display.end()
        if self._error is not None:
            raise self._error
        code = self._exit_code(plan)
        return RunResult(
            plan=plan,
            outcomes=tuple(self._outcomes.values()),
            exit_code=code,
            left_for_time=self._left(plan) if code == OUT_OF_TIME else 0,
        )

    def _next_events(self) -> list[Event]:
        """Wait for an event or the next deadline, and take all that came together."""
        queue = self._schedule.events
        events: list[Event] = []
        timeout = None
        if self._deadlines:
            timeout = max(0.0, self._deadlines[0][0] - time.monotonic())
            timeout = min(timeout, LONGEST_WAIT)
        with contextlib.suppress(Empty):
            events.append(queue.get(timeout=timeout))
            while True:
                events.append(queue.get_nowait())
        while self._deadlines and self._deadlines[0][0] <= time.monotonic():
            self._deadlines.pop(0)[1]()
        return events

    def _record(self, ended: Sequence[Ended]) -> None:
        if not ended:
            return
        try:
            self._recorder.record([event.outcome for event in ended])
        except RunnerError as error:
            for event in ended:
                event.recorded.set_exception(error)
            self._break_off(error)
        else:
            self._on_record()

    def _react(self, event: Event) -> None:
        match event:
            case Started(job, _, container):
                self._display.started(job)
                if self._display.wants_samples:
                    follow_samples(
                        self._prepared.engine,
                        container,
                        lambda samples, of: self._display.progressed(job, samples, of),
                    )
            case Ended(outcome, again, recorded):
                if not recorded.done():
                    self._take_in(outcome, again=again)
                    # Only now may the slot of a failure be used again: it may have been the last.
                    recorded.set_result(None)
            case Broken(error):
                self._break_off(error)
            case Signalled(number):
                self._interrupt(number)
            case Unfit(jobs, left):
                verb = "does" if jobs == 1 else "do"
                self._display.note(
                    f"{evals(jobs)} {verb} not fit in the {duration(left)} that are left of the "
                    "time budget"
                )
            case Idle():
                pass

    def _take_in(self, outcome: Outcome, *, again: bool) -> None:
        self._outcomes[outcome.job.key] = outcome
        failed = outcome.result is not Result.SUCCESS
        tail: tuple[str, ...] = ()
        if failed and outcome.console_log:
            path = self._prepared.layout.root / outcome.console_log
            tail = console_log.tail(path, self._display.tail_lines)
        self._display.ended(outcome, again=again, tail=tail)
        over = self._signal is not None or self._error is not None or self._time_over
        if failed and not again and self._prepared.options.exit_on_error and not over:
            left_out = self._schedule.stop_starting()
            if left_out:
                self._display.note(
                    f"stopping at the first failure; {left_out} not started "
                    "(--no-exit-on-error goes on)"
                )

    def _interrupt(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._signal is not None:
            self.signalled_again = True
            if number == signal.SIGINT:
                self._deadlines.clear()
                self._attempts.end_all(f"killed, for the run got a second {name}", kill=True)
            return
        self._signal = number
        grace = self._prepared.options.grace
        left_out = self._schedule.stop_starting()
        self._display.note(
            f"{name}: {left_out} will not be started; running evals get {grace:g} s to end "
            "(Ctrl-C again kills them now)"
        )
        self._end_after(grace, f"stopped, for the run got {name}")

    def _run_out_of_time(self) -> None:
        if self._signal is not None or self._error is not None:
            return
        self._time_over = True
        grace = self._prepared.options.grace
        left_out = self._schedule.stop_starting()
        self._display.note(
            f"the time budget is used up: {left_out} will not be started; running evals get "
            f"{grace:g} s to end"
        )
        self._end_after(grace, "stopped, for the run's time budget was used up")

    def _break_off(self, error: BaseException) -> None:
        if self._error is not None:
            return
        self._error = error
        self._schedule.stop_starting()
        self._end_after(self._prepared.options.grace, "stopped, for the run could not go on")

    def _end_after(self, grace: float, why: str) -> None:
        self._on_stopping()
        now = time.monotonic()
        self._at(now + grace, lambda: self._attempts.end_all(why))
        self._at(now + grace + STOP_TIME, lambda: self._attempts.end_all(why, kill=True))

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        self._deadlines.append((moment, act))
        self._deadlines.sort(key=lambda deadline: deadline[0])

    def _left(self, plan: Plan) -> int:
        outcomes = self._outcomes.values()
        done = {each.job.key for each in outcomes if each.result is Result.SUCCESS}
        return sum(job.key not in done for job in plan.todo)

    def _exit_code(self, plan: Plan) -> int:
        if self._signal is not None:
            return 128 + self._signal
        faults = {
            outcome.fault
            for outcome in self._outcomes.values()
            if outcome.result is not Result.SUCCESS
        }
        if Fault.EVAL in faults:
            return 1
        if (self._time_over or self._schedule.out_of_time) and self._left(plan):
            return OUT_OF_TIME
        return EnvironmentFault.exit_code if faults else 0

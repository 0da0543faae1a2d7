"""What ends a run before its time: signals, time, money and the disk.

Failures that are alike are counted in plan/cutoffs.py.
"""

import enum
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from runner.engine.container import STOP_TIME
from runner.errors import EnvironmentFault, Superseded
from runner.files import DiskSpace, room, used
from runner.records.layout import Layout
from runner.report.display import Display
from runner.report.text import evals, size
from runner.run.schedule import Schedule, Told

# Seconds; Python cannot wait longer than some centuries, and a time budget may be longer.
LONGEST_WAIT = 86400.0


class Deadlines:
    """Actions and when they are due, by a monotonic clock."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done after a number of seconds."""
        self._waiting.append((time.monotonic() + seconds, act))
        self._waiting.sort(key=lambda deadline: deadline[0])

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()

    @property
    def pause(self) -> float | None:
        """Seconds until the first is due; None if there is none."""
        if not self._waiting:
            return None
        return min(max(0.0, self._waiting[0][0] - time.monotonic()), LONGEST_WAIT)

    def act(self) -> None:
        """Run the actions that are due."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._waiting.pop(0)[1]()


# Seconds between killing containers and leaving those that still run to the next run.
LET_GO = 30


class UsedUp(enum.StrEnum):
    """What a run has used up, as people call it."""

    TIME = "time budget"
    MONEY = "budget"


class Stopping(msgspec.Struct, kw_only=True):
    """Why a run ends before its plan does, and how the evals that run are ended then.

    Attributes:
        deadlines: of the whole run.
        grace: seconds that running evals get to end.
        signal: the first one that came; None if none did.
        signalled_again: whether a second one came.
        error: why the run cannot continue; None if it can.
        used_up: what is; None if nothing is.
        let_go: whether containers that still run are left to the next run.
    """

    schedule: Schedule
    display: Display
    grace: float
    on_stopping: Callable[[], None]
    deadlines: Deadlines = msgspec.field(default_factory=Deadlines)
    signal: int | None = None
    signalled_again: bool = False
    error: BaseException | None = None
    used_up: UsedUp | None = None
    let_go: bool = False

    @property
    def begun(self) -> bool:
        """Whether the run ends early, and people were told."""
        return self.signal is not None or self.error is not None or self.used_up is not None

    def interrupt(self, number: int) -> None:
        """Let the running evals end, then stop them; a second Ctrl-C kills them now."""
        name = signal.Signals(number).name
        if self.signal is not None:
            if number == signal.SIGINT:
                why = f"killed because the run got a second {name}"
                self._kill(why, again=self.signalled_again)
            self.signalled_again = True
            return
        self.signal = number
        not_started = self.schedule.stop_starting()
        self.display.note(
            f"{name}: {_in_words(not_started)}running evals get {self.grace:g} s to end "
            "(Ctrl-C again kills them now)"
        )
        self._end(f"stopped because the run got {name}")

    def run_out_of_time(self) -> None:
        """Let the running evals end, as a signal does."""
        if self.signal is not None or self.error is not None:
            return
        self.used_up = UsedUp.TIME
        not_started = self.schedule.stop_starting()
        self.display.note(
            f"the time budget is used up: {_in_words(not_started)}running evals get "
            f"{self.grace:g} s to end"
        )
        self._end("stopped because the run's time budget was used up")

    def run_out_of_money(self, why: str) -> None:
        """Start no more evals; those that run continue, because they may need no more answers."""
        if self.begun:
            return
        self.used_up = UsedUp.MONEY
        not_started = self.schedule.stop_starting()
        self.display.warn(
            f"{why}; {_in_words(not_started)}running evals continue with what they have"
        )

    def break_off(self, error: BaseException) -> None:
        """End the run with this error once nothing runs any more, because it cannot continue."""
        if self.error is not None:
            return
        self.error = error
        self.schedule.stop_starting()
        if isinstance(error, Superseded):
            self.let_go = True  # what runs is the newer run's
            return
        self._end("stopped because the run could not continue")

    def _end(self, why: str) -> None:
        self.on_stopping()
        self.deadlines.after(self.grace, lambda: self.schedule.end_all(why))
        self.deadlines.after(self.grace + STOP_TIME, lambda: self._kill(why))

    def _kill(self, why: str, *, again: bool = False) -> None:
        self.deadlines.clear()
        self.schedule.end_all(why, kill=True)
        self.deadlines.after(0 if again else LET_GO, self._leave_to_the_next_run)

    def _leave_to_the_next_run(self) -> None:
        for container in self.schedule.under_way():
            self.display.warn(
                f"{container.eval} has not ended though it was killed; its container "
                f"{container.id[:12]} is left to the next run"
            )
        self.let_go = True


def _in_words(count: int) -> str:
    return f"{evals(count)} will not be started; " if count else ""


# Seconds between two looks.
INTERVAL = 2

# The fewest files that a file system must still have room for; each eval makes a handful.
LEAST_FILES = 1000


class Disk:
    """The file systems that a run fills: that of the progress directory, and the engine's.

    Args:
        engine: the engine's data folder, on this host or not; None if evals run elsewhere.
        least: bytes that have to stay free; 0 for any number.
    """

    def __init__(self, layout: Layout, engine: Path | None, *, least: int) -> None:
        self._layout = layout
        self._least = least
        # Checked once, because the folder of an engine on another host is not here.
        self._places = [layout.root, *([engine] if engine and engine.exists() else ())]

    def short(self) -> DiskSpace | None:
        """The first file system with too little room; None if all have enough."""
        if not self._least:
            return None
        for place in self._places:
            found = room(place)
            if found.free < self._least or (found.files is not None and found.files < LEAST_FILES):
                return found
        return None

    def about(self, found: DiskSpace) -> str:
        """What is wrong with a file system, what uses it, and how to free some of it."""
        what = (
            f"only {size(found.free)} are free on the disk"
            if found.free < self._least
            else f"only {found.files} more files can be made"
        )
        return (
            f"{what} where {found.place} is (--min-free-disk is {size(self._least)}); "
            f"{', '.join(self._uses())}; move old logs away, or see `docker system df` for what "
            "the engine keeps"
        )

    def _uses(self) -> Iterator[str]:
        root = self._layout.root
        for folder, what in (
            (self._layout.evallogs, "logs"),
            (root / ".attempts", "folders of running evals"),
            (root / ".snapshots.git", "snapshots"),
        ):
            taken = used(folder, patience=10)
            said = size(taken.size) if taken else "more than could be measured"
            yield f"{what} ({folder}) use {said}"


class DiskWatch(msgspec.Struct, kw_only=True):
    """Lets no eval start while there is too little room; running ones continue."""

    disk: Disk
    schedule: Schedule
    display: Display
    stopping: Stopping
    paused: bool = False

    def look(self) -> None:
        """Look now, and again in a while."""
        short = self.disk.short()
        if short and not self.paused:
            self.paused = True
            self.schedule.pause(paused=True)
            self._tell(short)
        elif short and self.schedule.taken == 0 and not self.schedule.under_way():
            self._end(short)
        elif not short and self.paused:
            self.paused = False
            self.schedule.pause(paused=False)
            self.display.note("there is room on the disk again; new evals start")
        self.stopping.deadlines.after(INTERVAL, self.look)

    def _tell(self, short: DiskSpace) -> None:
        """Measure what uses the disk in a thread of its own, because that takes time."""

        def measure() -> None:
            why = self.disk.about(short)
            self.schedule.events.put(Told(f"no new eval starts, running ones continue: {why}"))

        threading.Thread(target=measure, name="disk", daemon=True).start()

    def _end(self, short: DiskSpace) -> None:
        if not_started := self.schedule.stop_starting():
            count, why = evals(not_started), self.disk.about(short)
            error = EnvironmentFault(
                f"{count} not started: {why}", "then run the same command again"
            )
            self.stopping.break_off(error)

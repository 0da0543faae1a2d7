import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner.errors import EnvironmentFault
from runner.files import Room, room, used
from runner.records.layout import Layout
from runner.report.display import Display
from runner.report.text import evals, size
from runner.run.schedule import Schedule, Told
from runner.run.stopping import Stopping

if TYPE_CHECKING:
    from runner.engine.live import LiveContainers
    from runner.run.host_schedule import HostLive, HostSchedule

# Seconds between two looks.
INTERVAL = 2

# The fewest files that a file system must still have room for; each eval makes a handful.
LEAST_FILES = 1000


class Disk:
    """The file systems that a run fills: that of the progress directory, and the engine's.

    Args:
        engine: the engine's data folder, on this host or not.
        least: bytes that have to stay free; 0 for any number.
    """

    def __init__(self, layout: Layout, engine: str, *, least: int) -> None:
        self._layout = layout
        self._least = least
        # Checked once, because the folder of an engine on another host is not here.
        self._places = [layout.root, *(path for path in [Path(engine)] if path.exists())]

    def short(self) -> Room | None:
        """The first file system with too little room; None if all have enough."""
        if not self._least:
            return None
        for place in self._places:
            found = room(place)
            if found.free < self._least or (found.files is not None and found.files < LEAST_FILES):
                return found
        return None

    def about(self, found: Room) -> str:
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
    schedule: "Schedule | HostSchedule"
    live: "LiveContainers | HostLive"
    display: Display
    stopping: Stopping
    paused: bool = False

    def look(self) -> None:
        """Look now, and again in a while."""
        short = self.disk.short()
        if short and not self.paused:
            self.paused = True
            self.schedule.slots.close()
            self._tell(short)
        elif short and self.schedule.slots.taken == 0 and not list(self.live):
            self._end(short)
        elif not short and self.paused:
            self.paused = False
            self.schedule.slots.open()
            self.display.note("there is room on the disk again; new evals start")
        self.stopping.deadlines.after(INTERVAL, self.look)

    def _tell(self, short: Room) -> None:
        """Measure what uses the disk in a thread of its own, because that takes time."""

        def measure() -> None:
            why = self.disk.about(short)
            self.schedule.events.put(Told(f"no new eval starts, running ones continue: {why}"))

        threading.Thread(target=measure, name="disk", daemon=True).start()

    def _end(self, short: Room) -> None:
        retries = self.schedule.slots.renewing
        if not_started := self.schedule.stop_starting() + retries:
            count, why = evals(not_started), self.disk.about(short)
            error = EnvironmentFault(
                f"{count} not started: {why}", "then run the same command again"
            )
            self.stopping.break_off(error)

import threading
from collections.abc import Iterator
from pathlib import Path

from runner.engine.live import LiveContainers
from runner.errors import EnvironmentFault
from runner.records.layout import Layout
from runner.records.space import Room, room, used
from runner.report.display import Display
from runner.report.text import evals, size
from runner.run.schedule import Schedule, Told
from runner.run.stopping import Deadlines, Stopping

# Seconds between two looks.
INTERVAL = 2

# Files that must still be possible; each eval makes a handful.
LEAST_FILES = 1000


class Disk:
    """The file systems that a run fills: that of the progress directory, and the engine's.

    Args:
        layout: where the run's files go.
        engine: the engine's data folder, on this host or not.
        least: bytes that are to stay free; 0 if that does not matter.
    """

    def __init__(self, layout: Layout, engine: str, *, least: int) -> None:
        self._layout = layout
        self._least = least
        # Looked for once, so that an engine on another host is asked for nothing.
        self._places = [layout.root, *(path for path in [Path(engine)] if path.exists())]

    def short(self) -> Room | None:
        """The first of the file systems that has too little left."""
        if not self._least:
            return None
        for place in self._places:
            left = room(place)
            if left.free < self._least or (left.files is not None and left.files < LEAST_FILES):
                return left
        return None

    def about(self, left: Room) -> str:
        """What is wrong with a file system, what uses it, and how to free some of it."""
        what = (
            f"only {size(left.free)} are free on the disk"
            if left.free < self._least
            else f"only {left.files} more files can be made"
        )
        return (
            f"{what} where {left.place} is (--min-free-disk is {size(self._least)}); "
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


def require_room(disk: Disk) -> None:
    """Refuse to start on a file system that is almost full.

    Raises:
        EnvironmentFault: saying what uses it.
    """
    if left := disk.short():
        raise EnvironmentFault(f"no eval was started: {disk.about(left)}")


class DiskWatch:
    """Starts no eval while there is too little room; running ones continue."""

    def __init__(
        self,
        disk: Disk,
        schedule: Schedule,
        live: LiveContainers,
        display: Display,
        *,
        deadlines: Deadlines,
        stopping: Stopping,
    ) -> None:
        self._disk = disk
        self._schedule = schedule
        self._live = live
        self._display = display
        self._deadlines = deadlines
        self._stopping = stopping
        self._paused = False
        self.look()

    def look(self) -> None:
        """Look now, and again in a while."""
        left = self._disk.short()
        if left and not self._paused:
            self._paused = True
            self._schedule.slots.close()
            self._tell(left)
        elif left and self._schedule.slots.taken == 0 and not list(self._live):
            self._end(left)
        elif not left and self._paused:
            self._paused = False
            self._schedule.slots.open()
            self._display.note("there is room on the disk again; new evals start")
        self._deadlines.after(INTERVAL, self.look)

    def _tell(self, left: Room) -> None:
        """Measure what uses the disk in a thread of its own, because that takes time."""

        def measure() -> None:
            why = self._disk.about(left)
            self._schedule.events.put(Told(f"no new eval starts, running ones continue: {why}"))

        threading.Thread(target=measure, name="disk", daemon=True).start()

    def _end(self, left: Room) -> None:
        """Nothing runs that could free anything."""
        retries = self._schedule.slots.renewing
        if left_out := self._schedule.stop_starting() + retries:
            count = evals(left_out)
            self._stopping.break_off(
                EnvironmentFault(
                    f"{count} not started: {self._disk.about(left)}; then run the same again"
                )
            )

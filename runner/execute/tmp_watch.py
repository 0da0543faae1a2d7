import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runner.execute.live import Live, LiveContainer
from runner.execute.open_files import held_open
from runner.execute.verdict import Cut
from runner.job import Fault
from runner.record.layout import Layout
from runner.record.space import used

# Seconds between two looks, more where a look takes long, but so many at the most.
INTERVAL = 2
TIMES_COST = 5
LONGEST_PAUSE = 30

# Files and folders in one `/tmp`: more could use up those that the file system can have, or take
# longer to count than it takes to fill the disk.
MOST_FILES = 500_000


class TmpWatch:
    """Kills an eval whose `/tmp` grows beyond its limit.

    No mount that an ordinary user could make has a limit, so it is looked at; between two looks it
    may grow further. Each container has a thread of its own, so that none is kept from being looked
    at by another one's many files.
    """

    def __init__(self, layout: Layout, live: Live) -> None:
        self._layout = layout
        self._live = live

    @contextmanager
    def watching(self, container: LiveContainer) -> Iterator[None]:
        """Look at a container for as long as the `with` block lasts."""
        over = threading.Event()
        threading.Thread(
            target=self._watch, args=(container, over), name="tmp-watch", daemon=True
        ).start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, container: LiveContainer, over: threading.Event) -> None:
        pause: float = INTERVAL
        while not over.wait(pause):
            began = time.monotonic()
            if why := self._excess(container):
                self._live.end(container.id, Cut(why=why, fault=Fault.EVAL), "SIGKILL")
            cost = time.monotonic() - began
            pause = min(max(INTERVAL, TIMES_COST * cost), LONGEST_PAUSE)

    def _excess(self, container: LiveContainer) -> str:
        folder = self._layout.private(container.attempt)
        try:
            device = folder.stat().st_dev
        except OSError:
            return ""
        taken = used(folder)
        if taken is None:
            return "had so many files in its /tmp that they could not be counted"
        size = taken.size + held_open([container.id], device)[container.id]
        if size > container.tmp_limit:
            return (
                f"had {size / 2**20:.0f} MiB in its /tmp, over its limit of "
                f"{container.tmp_limit / 2**20:.0f} MiB (raise it with --tmp-limit)"
            )
        if taken.files > MOST_FILES:
            return f"had {taken.files} files in its /tmp, over the limit of {MOST_FILES}"
        return ""

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

# Seconds between two looks, and at least so many times what a look takes.
INTERVAL = 2
TIMES_COST = 5

# Files and folders in one `/tmp`: more could use up those that the file system can have.
MOST_FILES = 1_000_000


class TmpWatch:
    """Kills an eval whose `/tmp` grows beyond its limit.

    No mount that an ordinary user could make has a limit, so it is looked at; between two looks it
    may grow further.
    """

    def __init__(self, layout: Layout, live: Live) -> None:
        self._layout = layout
        self._live = live
        self._lock = threading.Lock()
        self._watching = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at all live containers for as long as anyone is in such a `with` block."""
        with self._lock:
            self._watching += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="tmp-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._watching -= 1

    def _watch(self) -> None:
        pause: float = INTERVAL
        while True:
            time.sleep(pause)
            with self._lock:
                if not self._watching:
                    self._thread = None
                    return
            began = time.monotonic()
            self._look(began - INTERVAL)
            pause = max(INTERVAL, TIMES_COST * (time.monotonic() - began))

    def _look(self, before: float) -> None:
        """Look at the containers that began before a moment: most evals need no look at all."""
        containers = [each for each in self._live if each.began < before]
        if not containers:
            return
        try:
            device = (self._layout.root / ".attempts").stat().st_dev
        except OSError:
            return
        held = held_open([each.id for each in containers], device)
        for each in containers:
            if why := self._excess(each, held[each.id]):
                self._live.end(each.id, Cut(why=why, fault=Fault.EVAL), "SIGKILL")

    def _excess(self, container: LiveContainer, held: int) -> str:
        taken = used(self._layout.private(container.attempt))
        if taken is None:
            return "had so many files in its /tmp that they could not be counted"
        if taken.size + held > container.tmp_limit:
            return (
                f"had {(taken.size + held) / 2**20:.0f} MiB in its /tmp, over its limit of "
                f"{container.tmp_limit / 2**20:.0f} MiB (raise it with --tmp-limit)"
            )
        if taken.files > MOST_FILES:
            return f"had {taken.files} files in its /tmp, over the limit of {MOST_FILES}"
        return ""

import os
import re
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from runner.engine import docker_py
from runner.engine.ending import Cut
from runner.engine.engine import Engine
from runner.errors import EnvironmentFault
from runner.files import used
from runner.model import Fault


class LiveContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container whose attempt is under way.

    Attributes:
        id: the engine's id of it.
        attempt: id of the attempt.
        eval: resolved key of the eval.
        tmp_limit: bytes that it may have in its `/tmp`.
        absences: of the engine, that were noticed up to the start of the attempt.
    """

    id: str
    attempt: str
    eval: str
    tmp_limit: int
    absences: int


class LiveContainers:
    """The containers of a run's attempts under way; which of them are ended early, and why.

    All threads may use it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._containers: dict[str, LiveContainer] = {}
        self._cuts: defaultdict[str, list[Cut]] = defaultdict(list)
        # Set once all are to end: also for one that comes to run only now.
        self._all: tuple[Cut, str] | None = None

    def __iter__(self) -> Iterator[LiveContainer]:
        with self._lock:
            return iter(list(self._containers.values()))

    @contextmanager
    def holding(self, container: LiveContainer) -> Iterator[None]:
        """Count a container in for as long as the `with` block lasts."""
        with self._lock:
            self._containers[container.id] = container
        try:
            yield
        finally:
            with self._lock:
                del self._containers[container.id]

    def runs(self, container: str) -> None:
        """A container was started; it is ended immediately if that was asked of all."""
        if self._all is not None:
            self.end(container, *self._all)

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """Signal every running container to end, or kill it; their attempts count as lost."""
        self._all = (Cut(why=why), "SIGKILL" if kill else "SIGTERM")
        for container in self:
            self.end(container.id, *self._all)

    def end(self, container: str, cut: Cut, signal: str) -> None:
        """Signal a container, without waiting for the engine, which may take its time."""
        # Before the signal: whoever waits for the container may be faster than the engine's answer.
        with self._lock:
            self._cuts[container].append(cut)

        def send() -> None:
            taken = False
            with suppress(EnvironmentFault, *docker_py.ERRORS), closing(self._engine.api) as api:
                taken = docker_py.kill(api, container, signal, docker_py.ANSWER_TIME)
            if not taken:  # it has ended by itself, or the engine is away
                with self._lock, suppress(ValueError):
                    self._cuts[container].remove(cut)

        threading.Thread(target=send, name="end", daemon=True).start()

    def cut(self, container: str) -> Cut | None:
        """Why a container was still running when it was ended by the runner."""
        with self._lock:
            cuts = self._cuts.pop(container, [])
        return cuts[-1] if cuts else None


# Seconds between two looks at a `/tmp`; more where a look takes long, up to the longest pause.
INTERVAL = 2

TIMES_COST = 5

LONGEST_PAUSE = 30

# Files and folders in one `/tmp`: more could use up those that the file system can have, or take
# longer to count than it takes to fill the disk.
MOST_FILES = 500_000


@contextmanager
def tmp_watched(live: LiveContainers, container: LiveContainer, folder: Path) -> Iterator[None]:
    """Kill an eval whose `/tmp` grows beyond its limit, for as long as the `with` block lasts.

    No mount that an ordinary user could make has a limit, so it is looked at; between two looks it
    may grow further. Each container has a thread of its own, so that none is kept from being looked
    at by another one's many files.
    """
    over = threading.Event()

    def watch() -> None:
        pause: float = INTERVAL
        while not over.wait(pause):
            began = time.monotonic()
            if why := _excess(container, folder):
                live.end(container.id, Cut(why=why, fault=Fault.EVAL), "SIGKILL")
            pause = max(INTERVAL, TIMES_COST * (time.monotonic() - began))
            pause = min(pause, LONGEST_PAUSE)

    threading.Thread(target=watch, name="tmp-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _excess(container: LiveContainer, folder: Path) -> str:
    try:
        device = folder.stat().st_dev
    except OSError:
        return ""
    taken = used(folder)
    if taken is None:
        return "had so many files in its /tmp that they could not be counted"
    size = taken.size + _deleted_but_open(container.id, device)
    if size > container.tmp_limit:
        return (
            f"had {size / 2**20:.0f} MiB in its /tmp, over its limit of "
            f"{container.tmp_limit / 2**20:.0f} MiB (raise it with --tmp-limit)"
        )
    if taken.files > MOST_FILES:
        return f"had {taken.files} files in its /tmp, over the limit of {MOST_FILES}"
    return ""


def _deleted_but_open(container: str, device: int) -> int:
    """Bytes in files of a file system that a container deleted and still holds open.

    They take disk space, and no walk of a folder finds them. Where the engine's processes cannot be
    looked at, as from another user's account, nothing is found.
    """
    sizes = {
        about.st_ino: about.st_blocks * 512
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _is_of(process, container)
        for about in _open_files(process)
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 0 and about.st_dev == device
    }
    return sum(sizes.values())


def _is_of(process: Path, container: str) -> bool:
    """Whether a process is a container's: the path of its cgroup has the container's id."""
    try:
        return container in (process / "cgroup").read_text()
    except OSError:
        return False


def _open_files(process: Path) -> Iterator[os.stat_result]:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                yield entry.stat()


# tqdm's bar, as oaieval prints it: ` 30%|###       | 3/10 [00:01<00:02,  2.9it/s]`.
_BAR = re.compile(rb"(\d{1,9})/(\d{1,9}) \[")


def follow_samples(engine: Engine, container: str, tell: Callable[[int, int], None]) -> None:
    """Watch a container's output for oaieval's progress bar, in a thread that ends with it.

    The engine keeps output by lines, and a bar has none until it is full: this attaches instead.
    """

    def watch() -> None:
        end = b""
        with (
            suppress(*docker_py.ERRORS, OSError),
            docker_py.attached(engine.api, container) as parts,
        ):
            for part in parts:
                found = _BAR.findall(end + part)
                if found:
                    tell(int(found[-1][0]), int(found[-1][1]))
                end = part[-64:]

    threading.Thread(target=watch, name=f"samples-{container[:12]}", daemon=True).start()


def console_of(engine: Engine, container: str, *, follow: bool) -> Iterator[bytes]:
    """What a container printed so far, and with `follow` all that it prints until it ends.

    Read from the engine's log, which has whole lines only: attaching may lose what is printed
    between the engine's look at the log and its attaching.
    """
    yield from engine.api.logs(container, stream=True, stdout=True, stderr=True, follow=follow)

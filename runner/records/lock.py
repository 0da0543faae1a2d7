import fcntl
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from runner.errors import LockHeld
from runner.files import UNREADABLE, make_folder, named, replace

# How often the lock is tried, and the seconds in between.
TRIES = 5

PAUSE = 0.05


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lock.

    Attributes:
        pid: process id on its host.
        host: name of that host.
        started: UTC, RFC 3339.
    """

    pid: int
    host: str
    started: str


class RunLock:
    """Lets one live run at a time work on a model and eval set; dies with its holder.

    The lock is the operating system's (flock), so that a killed run leaves none behind; the
    file next to it, which says who holds it, is for the message only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder = path.with_name(f"{path.name}.holder.json")
        self._descriptor = -1

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        with named(self._path, "write"):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if not self._acquire():
                os.close(self._descriptor)
                raise LockHeld(self._refusal())
        holder = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            replace(self._holder, msgspec.json.encode(holder), writer="run")
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # only those who find the lock held read it
            self._holder.unlink()
        os.close(self._descriptor)

    def _acquire(self) -> bool:
        """Take the lock; `is_held` may have it for a moment."""
        for _ in range(TRIES):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(PAUSE)
            else:
                return True
        return False

    def _refusal(self) -> str:
        try:
            holder = msgspec.json.decode(self._holder.read_bytes(), type=Holder)
        except (OSError, *UNREADABLE):
            who = "another process"
        else:
            who = f"process {holder.pid} on {holder.host} since {holder.started}"
        return (
            f"{self._path} is held by {who}: another run of this model and eval set is under way; "
            "wait for it, or use another --progress-dir"
        )


def is_held(path: Path) -> bool:
    """Whether a live run holds the lock at `path`; asks no right to write there."""
    with named(path, "read"):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

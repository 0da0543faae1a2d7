import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from filelock import FileLock, Timeout

from runner.errors import LockHeld
from runner.record.files import UNREADABLE, make_folder, named, replace


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

    The lock is the operating system's (flock), so that a killed run leaves none behind; who holds
    it stands in a file beside it, for the message only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder = path.with_name(f"{path.name}.holder.json")
        self._lock = FileLock(path)

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        with named(self._path, "write"):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise LockHeld(self._refusal()) from None
        holder = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        replace(self._holder, msgspec.json.encode(holder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    def _refusal(self) -> str:
        try:
            holder = msgspec.json.decode(self._holder.read_bytes(), type=Holder)
        except (OSError, *UNREADABLE):
            who = "another process"
        else:
            who = f"process {holder.pid} on {holder.host} since {holder.started}"
        return (
            f"{self._path} is held by {who}: another run of this model and eval set is going on; "
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

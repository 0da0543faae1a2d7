import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runner.errors import LockHeld
from runner.files import UNREADABLE, make_folder, named, replace, take_lock

# Seconds for which the lock is tried: `is_held` may have it for a moment.
PATIENCE = 0.2


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lock: a process of a host, since `started`, UTC, RFC 3339."""

    pid: int
    host: str
    started: str


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Let one live run at a time work on a model and eval set.

    The lock is the operating system's (flock), so that a killed run leaves none behind; the
    file next to it, which says who holds it, is for the message only.

    Raises:
        LockHeld: another run has it.
    """
    holder_path = path.with_name(f"{path.name}.holder.json")
    make_folder(path.parent)
    with named(path, "write"):
        file = path.open("ab")
    with file:
        with named(path, "write"):
            if not take_lock(file, patience=PATIENCE):
                raise LockHeld(
                    f"{path} is held by {_who(holder_path)}: another run of this model and eval "
                    "set is under way",
                    "wait for it, or use another --progress-dir",
                )
        holder = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        replace(holder_path, msgspec.json.encode(holder), writer="run")
        try:
            yield
        finally:
            with suppress(OSError):  # only those who find the lock held read it
                holder_path.unlink()


def _who(holder_path: Path) -> str:
    try:
        holder = msgspec.json.decode(holder_path.read_bytes(), type=Holder)
    except (OSError, *UNREADABLE):
        return "another process"
    return f"process {holder.pid} on {holder.host} since {holder.started}"


def is_held(path: Path) -> bool:
    """Whether a live run holds the lock at `path`; asks no right to write there."""
    with named(path, "read"):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
    with file:
        return not take_lock(file, shared=True)

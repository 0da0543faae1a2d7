"""The runner, which is disturbed at the n-th of its calls of one kind.

Run as a program it is `evalset`. The calls are counted over all threads, in the order in which they
come: strace could inject the same, but it counts each thread's calls for themselves, so that a
worker's first ones, which come after the main thread's, cannot be met.
"""

import errno
import io
import itertools
import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

# What changes the disk or the engine, by the name of a kind, and where Python finds it.
CALLS: dict[str, list[tuple[Any, str]]] = {
    "fsync": [(os, "fsync")],
    "write": [(os, "write")],
    "open": [(io, "open")],
    "link": [(os, "link")],
    "rename": [(os, "rename"), (os, "replace")],
    "mkdir": [(os, "mkdir")],
    "remove": [(os, "unlink"), (os, "rmdir")],
    "chmod": [(os, "chmod")],
    "send": [(socket.socket, "sendall")],
}

# How the process is told what to do, and where it tells what it has done.
VARIABLE = "EVALSET_TEST_POINT"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process is disturbed, and how.

    Attributes:
        kind: of call.
        number: which of them, from 1; 0 is none.
        way: `before` and `after` kill the process there; `unsent` and `unheard` cut the connection;
            else it is the error that the call ends with.
        counts: file for how many calls of each kind there were, unless it is killed.
        met: file that is there once the point was met.
    """

    kind: str = ""
    number: int = 0
    way: str = ""
    counts: str
    met: str


class Counting:
    """Counts calls, and disturbs one of them."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def wrap(self, kind: str, owner: Any, name: str) -> None:  # noqa: ANN401 - module or class
        """Count the calls of a function."""
        real = getattr(owner, name)
        setattr(owner, name, lambda *args, **named: self._call(kind, real, *args, **named))

    def write(self) -> None:
        """Tell how many there were; that itself is none of them."""
        self._point = msgspec.structs.replace(self._point, number=0)
        Path(self._point.counts).write_text(json.dumps(self._counts))

    def _call(self, kind: str, real: Callable[..., Any], *args: Any, **named: Any) -> Any:  # noqa: ANN401 - any function
        if kind == "open" and not {*"wax+"} & {*(named.get("mode") or args[1])}:
            return real(*args, **named)
        with self._lock:
            self._counts[kind] += 1
            number = self._counts[kind]
        if (kind, number) != (self._point.kind, self._point.number):
            return real(*args, **named)
        os.close(os.open(self._point.met, os.O_CREAT | os.O_WRONLY, 0o600))
        if self._point.way == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._point.way == "after":
            done = real(*args, **named)
            self.kill_after(kind)
            return done
        if kind == "send":
            return self._cut(real, *args)
        code = getattr(errno, self._point.way)
        raise OSError(code, os.strerror(code))

    def kill_after(self, kind: str) -> None:  # noqa: ARG002 - subclasses use it
        """Kill the process once a call of this kind has done all that it does."""
        os.kill(os.getpid(), signal.SIGKILL)

    def _cut(self, send: Callable[[socket.socket, bytes], None], *args: Any) -> None:  # noqa: ANN401 - as above
        """Lose the engine before it gets a request, or before it answers."""
        connection: socket.socket = args[0]
        if self._point.way == "unheard":
            send(*args)
        connection.shutdown(socket.SHUT_RDWR)
        if self._point.way == "unsent":
            send(*args)


def main() -> None:
    """Be `evalset`, with all calls counted."""
    counting = Counting(msgspec.json.decode(os.environ[VARIABLE], type=Point))
    for kind, places in CALLS.items():
        for owner, name in places:
            counting.wrap(kind, owner, name)
    from runner.cli import main  # noqa: PLC0415 - what it takes from modules must be what was put there

    try:
        main()
    finally:
        counting.write()


def ways(kind: str) -> tuple[str, ...]:
    """How calls of a kind are disturbed."""
    errors = ("unsent", "unheard") if kind == "send" else ("ENOSPC", "EIO")
    return ("before", "after", *errors)


def all_points(counts: dict[str, int], folder: Path) -> list[Point]:
    """Every point of a run that made so many calls."""
    return [
        Point(
            kind=kind,
            number=number,
            way=way,
            counts=str(folder / "counts"),
            met=str(folder / "met"),
        )
        for kind, count in counts.items()
        for number, way in itertools.product(range(1, count + 1), ways(kind))
    ]


if __name__ == "__main__":
    main()

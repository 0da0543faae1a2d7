"""The gateway's process, which is killed at the n-th of its calls of one kind.

Run as a program it is `runner.gateway`. What it does is in the file `point` of the stage's folder.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from aiohttp.http_writer import StreamWriter

from runner.gateway.__main__ import main
from tests.faults.points import Counting, Point

# What leaves the process, by the name of a kind, and where Python finds it.
CALLS: dict[str, list[tuple[Any, str]]] = {
    "write": [(os, "write")],
    "sync": [(os, "fsync"), (os, "fdatasync")],
    # What its libraries hand to the event loop, which alone knows the sockets.
    "send": [(StreamWriter, "_write"), (StreamWriter, "_writelines")],
}

FILE = "point"


class GatewayCounting(Counting):
    """Counts the gateway's calls, and kills it at one of them."""

    def kill_after(self, kind: str) -> None:
        """As for any process; the event loop sends in the next of its rounds."""
        if kind == "send":
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)
        else:
            super().kill_after(kind)


def disturbed() -> None:
    """Be the gateway with all calls counted, unless an earlier one met the point."""
    stage = Path(sys.argv[1]).parents[2]
    point = msgspec.json.decode((stage / FILE).read_bytes(), type=Point)
    if Path(point.met).exists():
        sys.exit(main())
    counting = GatewayCounting(point)
    for kind, places in CALLS.items():
        for owner, name in places:
            counting.wrap(kind, owner, name)
    try:
        sys.exit(main())
    finally:
        counting.write()


if __name__ == "__main__":
    disturbed()

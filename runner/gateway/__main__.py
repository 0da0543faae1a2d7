# ruff: noqa: E402
import gc

gc.disable()  # modules are no garbage, and to look for some takes a tenth of the start

import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvloop
from aiohttp import ClientPayloadError
from aiohttp.http import HttpProcessingError

from runner.files import take_lock
from runner.gateway.messages import Config, listen
from runner.gateway.server import GatewayServer

# Seconds after which another gateway in the same folder is taken to stay.
PATIENCE = 3.0


def main() -> int:
    """Be the gateway of the folder in the first argument; standard input has its configuration."""
    folder = Path(sys.argv[1])
    if not (told := sys.stdin.buffer.read()):
        return 0  # the run does not need it any more
    config = msgspec.json.decode(told, type=Config)
    os.environ.update(config.environment)
    with _locked(folder / "lock") as is_locked:
        if not is_locked:
            print("another gateway works here")
            return 0
        (folder / "pid").write_text(f"{os.getpid()}\n")
        _raise_limits()
        _avoid_pauses()
        _keep_quiet()

        async def serve() -> None:
            await GatewayServer(config).serve(listen(folder, "control.sock"))

        uvloop.run(serve())

        from runner.gateway.client import tidy  # noqa: PLC0415 - only the end needs it

        tidy(folder)
    return 0


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Take the lock, if possible; a gateway that is about to end may hold it for a moment."""
    until = time.monotonic() + PATIENCE
    while True:
        with path.open("ab") as lock:
            if not take_lock(lock, patience=until - time.monotonic()):
                yield False
                return
            # The one that had it removes the file as its last step.
            if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield True
                return


def _keep_quiet() -> None:
    """Do not log requests that are not HTTP, because a program could fill the disk with them."""

    def is_ours(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, (HttpProcessingError, ClientPayloadError))

    logging.getLogger("aiohttp.server").addFilter(is_ours)


def _raise_limits() -> None:
    """Allow as many connections as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _avoid_pauses() -> None:
    """Collect garbage rarely, because modules and answers on record never are garbage."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


if __name__ == "__main__":
    sys.exit(main())

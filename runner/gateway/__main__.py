import asyncio
import fcntl
import os
import sys
import time
from pathlib import Path
from typing import IO

import msgspec

from runner.gateway.client import Config, tidy
from runner.gateway.server import Gateway, avoid_pauses, keep_quiet, listen, raise_limits

# Seconds until another gateway in the same folder counts as one that stays.
PATIENCE = 3.0


def main() -> int:
    """Be a gateway in the folder of the first argument, as standard input describes it."""
    folder = Path(sys.argv[1])
    if not (told := sys.stdin.buffer.read()):
        return 0  # the run does not need it
    config = msgspec.json.decode(told, type=Config)
    os.environ.update(config.environment)
    with (folder / "lock").open("ab") as lock:
        if not _acquire(lock):
            print("another gateway works here")
            return 0
        (folder / "pid").write_text(f"{os.getpid()}\n")
        raise_limits()
        avoid_pauses()
        keep_quiet()

        async def serve() -> None:
            await Gateway(config).serve(listen(folder, "control.sock"))

        asyncio.run(serve())
        tidy(folder)
    return 0


def _acquire(lock: IO[bytes]) -> bool:
    """Take the lock; one that is about to end may have it for a moment."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True


if __name__ == "__main__":
    sys.exit(main())

import asyncio
import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.gateway.client import Config


def main() -> int:
    """Be a gateway in the folder of the first argument, as standard input describes it."""
    folder = Path(sys.argv[1])
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
    os.environ.update(config.environment)
    os.environ["NETRC"] = os.devnull  # else a file of the user's would add logins to requests
    lock_path = folder / "lock"
    with lock_path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another gateway works here")
            return 0
        (folder / "pid").write_text(f"{os.getpid()}\n")
        asyncio.run(_serve(folder, config))
        # Nobody else may be here while the lock is held; what went wrong stays to be read.
        log = folder / "gateway.log"
        written = log.exists() and log.stat().st_size
        for path in (
            folder / "control.sock",
            folder / "pid",
            *([] if written else [log, lock_path]),
        ):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # a next run has come meanwhile
            for path in (folder / "attempts", folder, folder.parent):
                path.rmdir()
    return 0


async def _serve(folder: Path, config: Config) -> None:
    from runner.gateway.server import Gateway, listen, raise_limits  # noqa: PLC0415 - once

    raise_limits()
    await Gateway(config).serve(listen(folder, "control.sock"))


if __name__ == "__main__":
    sys.exit(main())

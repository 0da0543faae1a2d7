import asyncio
import fcntl
import os
import sys
from pathlib import Path

import msgspec

from runner.gateway.client import Config, tidy
from runner.gateway.server import Gateway, listen, raise_limits


def main() -> int:
    """Be a gateway in the folder of the first argument, as standard input describes it."""
    folder = Path(sys.argv[1])
    if not (told := sys.stdin.buffer.read()):
        return 0  # the run does not need it
    config = msgspec.json.decode(told, type=Config)
    os.environ.update(config.environment)
    os.environ["NETRC"] = os.devnull  # else a file of the user's would add logins to requests
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another gateway works here")
            return 0
        (folder / "pid").write_text(f"{os.getpid()}\n")
        raise_limits()

        async def serve() -> None:
            await Gateway(config).serve(listen(folder, "control.sock"))

        asyncio.run(serve())
        tidy(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

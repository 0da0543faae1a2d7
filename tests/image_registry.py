import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

# Where scripts/test-tools puts it.
UNPACKED = Path(__file__).parents[1] / ".cache/test-tools/usr/bin/docker-registry"


@contextmanager
def serving(
    folder: Path, *, users: str = "", port: int = 0, inside: Sequence[str | Path] = ()
) -> Iterator[str]:
    """An image registry on loopback, for all or for the users of a htpasswd file's text.

    Gives its `host:port`; what it says of each request is in the file `log` of the folder.

    Args:
        port: where it listens; a free one unless it is given.
        inside: what a command line begins with that leads into another network.
    """
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    settings = folder / "config.yml"
    text = (
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    if users:
        (folder / "users").write_text(users)
        text += f"auth: {{htpasswd: {{realm: tests, path: {folder / 'users'}}}}}\n"
    settings.write_text(text)
    program = shutil.which("docker-registry") or UNPACKED
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*inside, program, "serve", settings], stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(folder / "log", f"listening on {address}", process)
            yield address
        finally:
            process.terminate()


def _wait_for(log: Path, line: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(100):
        if line in log.read_text():
            return
        assert process.poll() is None
        time.sleep(0.1)
    pytest.fail("the image registry does not listen")

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# Where scripts/test-tools puts it.
UNPACKED = Path(__file__).parents[2] / ".cache/test-tools/usr/bin/docker-registry"


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image registry on loopback; gives its `host:port`."""
    folder = tmp_path_factory.mktemp("image-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "config.yml"
    settings.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    program = shutil.which("docker-registry") or UNPACKED
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([program, "serve", settings], stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
        else:
            return
    pytest.fail("the image registry does not answer")

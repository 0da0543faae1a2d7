import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from runner.execute.engine import where


class Proxy:
    """Stands between a run and the engine, so that the engine can seem to go away.

    Attributes:
        address: for DOCKER_HOST.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.address = f"unix://{path}"
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def begin(self) -> None:
        """Let the engine be there."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(50)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def end(self) -> None:
        """Let the engine be gone, with every connection to it."""
        assert self._listener
        self._path.unlink()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(where().removeprefix("unix://"))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxied(folder: Path) -> Iterator[Proxy]:
    """A proxy to the engine for as long as the `with` block lasts."""
    proxy = Proxy(folder / "engine.sock")
    proxy.begin()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            proxy.end()

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from runner.engine.docker_py import address


class Proxy:
    """Stands between a run and the engine, so that the engine can seem to go away.

    Attributes:
        address: for DOCKER_HOST.
        lose: the end of a path: the first request there reaches the engine, and its answer nobody.
    """

    def __init__(self, path: Path, lose: str = "") -> None:
        self._path = path
        self._engine = address().removeprefix("unix://")
        self.lose = lose
        self.address = f"unix://{path}"
        self._open: list[socket.socket] = []
        self._mute: list[socket.socket] = []
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
                far.connect(self._engine)
                self._open += [near, far]
                for copy in (self._ask, self._answer):
                    threading.Thread(target=copy, args=(near, far), daemon=True).start()

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                # The first line of a request: POST /v1.41/containers/create?name=x HTTP/1.1
                target = data.split(b" ", 2)[1:2]
                path = b"".join(target).partition(b"?")[0].decode(errors="replace")
                if self.lose and path.endswith(self.lose):
                    self.lose = ""
                    self._mute.append(near)
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if near in self._mute:
                    near.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxied(folder: Path, *, lose: str = "") -> Iterator[Proxy]:
    """A proxy to the engine for as long as the `with` block lasts."""
    proxy = Proxy(folder / "engine.sock", lose)
    proxy.begin()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            proxy.end()

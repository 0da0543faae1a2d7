"""Unix sockets, and asking a gateway over one; HTTP takes long to import."""

import http.client
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path


def listen(folder: Path, name: str) -> socket.socket:
    """Listen on a Unix socket, however long its path is."""
    with suppress(FileNotFoundError):
        (folder / name).unlink()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
    listener.setblocking(False)  # noqa: FBT003 - its only argument
    return listener


def connected(folder: Path, name: str, timeout: float | None) -> socket.socket:
    """Connect to a Unix socket, however long its path is; OSError where nobody listens."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ExitStack() as stack:
            own = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            own.settimeout(timeout)
            own.connect(f"/proc/self/fd/{descriptor}/{name}")
            stack.pop_all()  # it stays open
            return own
    finally:
        os.close(descriptor)


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, however long its path is."""

    def __init__(self, folder: Path, name: str, timeout: float) -> None:
        super().__init__("gateway", timeout=timeout)
        self._place = folder, name

    def connect(self) -> None:
        """Connect to the socket."""
        folder, name = self._place
        self.sock = connected(folder, name, self.timeout)


def ask(folder: Path, method: str, path: str, body: bytes | None, *, timeout: float) -> bytes:
    """Ask the process that works in a folder.

    Raises:
        OSError: there is none, or it is about to end, or does not answer.
        LookupError: it refuses.
    """
    connection = Connection(folder, "control.sock", timeout=timeout)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        said = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise LookupError(said.decode(errors="replace"))
    return said

import socket
from typing import Any

from docker.transport.unixconn import (
    UnixHTTPAdapter,
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)


class _Connection(UnixHTTPConnection):
    """Closes a socket that finds nobody; docker-py leaves it to the interpreter."""

    def connect(self) -> None:
        """Connect to the engine's socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.unix_socket)
        except OSError:
            self.sock.close()
            raise


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> _Connection:  # type: ignore[override] # as docker-py's own does
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type] # its stubs are wrong


class OneConnection(UnixHTTPAdapter):
    """Uses one connection for all requests of a client.

    docker-py's own opens one for each address, which has a container's id in it, and keeps the last
    25 of them open: many workers would use up the files that a process may have open.
    """

    def __init__(self, like: UnixHTTPAdapter) -> None:
        super().__init__(like.socket_path, like.timeout)
        self._pool = _Pool("http://localhost", like.socket_path, like.timeout, maxsize=1)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:  # noqa: ANN401, ARG002 - docker-py's
        """Where connections come from, whatever is asked for."""
        return self._pool

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        super().close()

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOOPBACK = "127.0.0.1"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class SiteServer:
    """Serves a folder of pages on loopback, below a path that only its user knows.

    Attributes:
        folder: what is served; another one may be put here at any time.
        key: the first part of every path.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.key = secrets.token_urlsafe(16)
        self._http = ThreadingHTTPServer((LOOPBACK, port), self._handler())

    @property
    def address(self) -> str:
        """Where a browser finds the first page."""
        return f"http://{LOOPBACK}:{self._http.server_port}/{self.key}/index.html"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer requests, on threads of their own."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._http.shutdown()
            self._http.server_close()

    def find(self, host: str | None, path: str) -> Path | HTTPStatus:
        """The file that a request is for, or why there is none.

        A page of another site can have its own name lead to loopback; then `host` gives it away.
        """
        port = self._http.server_port
        if host not in {f"{LOOPBACK}:{port}", f"localhost:{port}"}:
            return HTTPStatus.MISDIRECTED_REQUEST
        key, _, name = unquote(urlsplit(path).path).removeprefix("/").partition("/")
        if not secrets.compare_digest(key.encode(errors="replace"), self.key.encode()):
            return HTTPStatus.NOT_FOUND
        if "\0" in name:  # no file has it in its name
            return HTTPStatus.NOT_FOUND
        folder = self.folder
        found = (folder / (name or "index.html")).resolve()
        if not found.is_relative_to(folder.resolve()) or not found.is_file():
            return HTTPStatus.NOT_FOUND
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one request."""

            def do_GET(self) -> None:
                found = server.find(self.headers.get("Host"), self.path)
                try:
                    content = found.read_bytes() if isinstance(found, Path) else b""
                except OSError:  # a newer report has taken its place
                    found = HTTPStatus.NOT_FOUND
                if isinstance(found, HTTPStatus):
                    self.send_error(found)
                    return
                self.send_response(HTTPStatus.OK)
                kind = _TYPES.get(found.suffix, "application/octet-stream")
                for name, value in {**_HEADERS, "Content-Type": kind}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http's word
                """Say nothing: the terminal shows the address."""

        return Handler

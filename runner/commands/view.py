import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, TextIO
from urllib.parse import unquote, urlsplit

from runner.commands.command_line import evalset_command
from runner.commands.report import ReportOptions, build_site, can_test, opened
from runner.errors import EnvironmentFault
from runner.gateway.prices import read_prices
from runner.options import N
from runner.parameters import Option

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


# Seconds between two looks at the records.
PAUSE = 2.0

# A large report is made again so seldom that this part of the time goes into it.
SHARE = 0.2


class Reports:
    """Makes a report in a new `folder` when there is something new to show."""

    def __init__(self, options: ReportOptions, folder: Path) -> None:
        self._options = options
        self._top = folder
        self._prices = read_prices(options.prices)
        self._test: bool | None = None
        self._shown: tuple[object, ...] = ()
        self._build = 0
        self.folder = folder

    def renew(self) -> bool:
        """Make a report if what it would show has changed; tell whether it did."""
        from runner.report.site.builder import ReportFolder

        with opened(self._options) as sources:
            shown = tuple((it.column, it.eval_set, it.rows, it.state.attempts) for it in sources)
            if shown == self._shown:
                return False
            if self._test is None:
                self._test = can_test(sources)
            self._build += 1
            place = ReportFolder(self._top / str(self._build))
            with place:
                build_site(
                    sources,
                    place,
                    prices=self._prices,
                    test=self._test,
                    live=True,
                    build=self._build,
                )
        # Whoever reads the one before may finish a page of it.
        shutil.rmtree(self._top / str(self._build - 2), ignore_errors=True)
        self.folder = place.path
        self._shown = shown
        return True


def view(options: ReportOptions, port: int, *, out: TextIO) -> None:
    """Serve a report on loopback, and renew it until the user has seen enough.

    Raises:
        EnvironmentFault: the port is taken.
    """
    from runner.records.folders import temporary_folder

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Where it is ignored, as under `nohup`, the view is meant to continue.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with temporary_folder("view") as folder:
        reports = Reports(options, folder)
        with suppress(KeyboardInterrupt):
            began = time.monotonic()
            reports.renew()
            try:
                server = SiteServer(reports.folder, port)
            except OSError as error:
                raise EnvironmentFault(
                    f"port {port} cannot be used: {error.strerror}", "choose another --port"
                ) from error
            with server.serving():
                print(f"{server.address}\nCtrl-C ends it.", file=out, flush=True)
                while True:
                    took = time.monotonic() - began
                    time.sleep(max(PAUSE, took / SHARE))
                    began = time.monotonic()
                    if reports.renew():
                        server.folder = reports.folder


@evalset_command("evalset view gpt-4 test-basic --port 8000")
def command(
    *,
    about: ReportOptions,
    port: Annotated[
        int,
        Option("Port on loopback; 0 takes a free one.", N, least=0, most=65535, configurable=False),
    ] = 0,
) -> None:
    """Show the report in a browser, and refresh it during a run.

    Only programs on this machine can reach it, with the address that it prints. Ctrl-C ends it.
    """
    view(about, port, out=sys.stdout)

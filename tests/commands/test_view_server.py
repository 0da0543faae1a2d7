import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from runner.commands.view import SiteServer
from tests.report.site.conftest import Visit
from tests.report.site.example import write_example


@contextmanager
def served(folder: Path) -> Iterator[SiteServer]:
    server = SiteServer(folder, 0)
    with server.serving():
        yield server


def ask(server: SiteServer, path: str, **headers: str) -> http.client.HTTPResponse:
    """The answer to one request."""
    address = urlsplit(server.address)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SiteServer]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<p>the page</p>")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site/link").symlink_to(tmp_path / "secret")
    with served(tmp_path / "site") as server:
        yield server


def test_it_listens_on_loopback_alone(server: SiteServer) -> None:
    """Whatever addresses the machine has."""
    assert server._http.server_address[0] == "127.0.0.1"
    assert urlsplit(server.address).hostname == "127.0.0.1"


def test_a_page_has_its_headers(server: SiteServer) -> None:
    """It is not kept, not framed, and taken for what it is."""
    answer = ask(server, f"/{server.key}/index.html")
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'none'"
    assert answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", ""])
def test_a_name_that_leads_to_loopback_is_refused(server: SiteServer, host: str) -> None:
    """Another site's page can have its own name lead here; the host's name gives it away."""
    port = str(urlsplit(server.address).port)
    path = f"/{server.key}/index.html"
    assert ask(server, path, Host=host.format(port=port)).status == 421
    assert ask(server, path, Host=f"localhost:{port}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/wrong/index.html",
        "/{key}/../secret",
        "/{key}/..%2fsecret",
        "/{key}//etc/passwd",
        "/{key}/%2e%2e/%2e%2e/etc/passwd",
        "/{key}/link",
        "/{key}/a%00b",
        "/{key}/none.html",
        "/{key}/.",
    ],
)
def test_nothing_else_can_be_read(server: SiteServer, path: str) -> None:
    """Neither without the key, nor outside of the folder, nor by a link."""
    assert ask(server, path.format(key=server.key)).status == 404


def test_nothing_can_be_sent(server: SiteServer) -> None:
    """It answers GET alone."""
    port = urlsplit(server.address).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", f"/{server.key}/index.html", body=b"x")
    assert connection.getresponse().status == 501
    connection.close()


@contextmanager
def viewing(root: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`evalset view` as a process, and its address; its temporary files are next to the records."""
    line = [sys.executable, "-m", "runner", "view", "--progress-dir", str(root), *options]
    (root.parent / "tmp").mkdir(exist_ok=True)
    with subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(root.parent / "tmp")},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def folders(root: Path) -> list[str]:
    """What views have next to these records now."""
    return [path.name for path in (root.parent / "tmp").iterdir()]


@pytest.mark.browser
def test_view_shows_what_becomes_of_a_run(browser: Browser, tmp_path: Path) -> None:
    """The page renews itself once there is something new, with what was chosen on it."""
    context = browser.new_context()
    visit = Visit(context)
    write_example(tmp_path / "p", [("m", 0.8)], failing=("arithmetic.dev.v0",), samples=3)
    with viewing(tmp_path / "p") as (_, address):
        visit.page.goto(f"{address}#sort=-0")
        assert visit.page.locator(".state.failed").count() == 2  # above, and in the table
        write_example(tmp_path / "p", [("m", 0.8)], failing=(), samples=3)
        visit.page.wait_for_selector("text=12 of 12 evals finished", timeout=60_000)
        assert visit.page.evaluate("location.hash") == "#sort=-0"
        assert visit.page.locator(".state.failed").count() == 0
    context.close()
    assert visit.complaints == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_view_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C is how it is ended, or the terminal is closed; nothing is left behind."""
    write_example(tmp_path / "p", [("m", 0.8)], samples=1)
    with viewing(tmp_path / "p") as (process, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/index\.html", address)
        assert len(folders(tmp_path / "p")) == 1
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""

    assert folders(tmp_path / "p") == []


def test_view_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """And leaves alone what belongs to one that still runs."""
    write_example(tmp_path / "p", [("m", 0.8)], samples=1)
    with viewing(tmp_path / "p") as (process, _):
        left = folders(tmp_path / "p")
        process.kill()
        process.wait()
        assert folders(tmp_path / "p") == left
    with viewing(tmp_path / "p"):
        first = folders(tmp_path / "p")
        assert len(first) == 1
        assert first != left
        with viewing(tmp_path / "p"):
            assert len(folders(tmp_path / "p")) == 2


def test_view_goes_on_where_hang_ups_are_ignored(tmp_path: Path) -> None:
    """As `nohup` has it."""
    write_example(tmp_path / "p", [("m", 0.8)], samples=1)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with viewing(tmp_path / "p") as (process, address):
            process.send_signal(signal.SIGHUP)
            connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
            connection.request("GET", urlsplit(address).path)
            assert connection.getresponse().status == 200
            connection.close()
            assert process.poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_view_says_that_a_port_is_taken(tmp_path: Path, server: SiteServer) -> None:
    """One line, and what to do."""
    write_example(tmp_path / "p", [("m", 0.8)], samples=1)
    port = str(urlsplit(server.address).port)
    with viewing(tmp_path / "p", "--port", port) as (process, _):
        assert process.wait(20) == 3
        assert process.stderr is not None
        assert process.stderr.read() == (
            f"Error: port {port} cannot be used: Address already in use; choose another --port\n"
        )

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.branch.git import find_repository
from runner.branch.remote import Remote, RemoteError, hide_password
from tests.branch.desk import git, make_clone
from tests.command_lines import watched
from tests.conftest import until

PASSWORD = "p/ssw0rd-0123456789"  # noqa: S105 - made up
QUOTED = "p%2Fssw0rd-0123456789"


class _Asks(BaseHTTPRequestHandler):
    """Asks for a password, and has nothing; answers once Git's own process was seen."""

    said: list[str] = []  # noqa: RUF012 - one server at a time
    seen: set[str] = set()  # noqa: RUF012 - as above

    def do_GET(self) -> None:
        until(lambda: any("remote-http" in line for line in list(self.seen)))
        said = self.headers.get("Authorization", "")
        self.said.append(said)
        self.send_response(404 if said else 401)
        self.send_header("WWW-Authenticate", "Basic realm=x")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """A server's `host:port`."""
    _Asks.said.clear()
    _Asks.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Asks) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("named", [True, False])
def test_a_password_in_an_address_is_on_no_command_line(
    tmp_path: Path, server: str, *, named: bool
) -> None:
    """The server gets it all the same, whether the address is given or is that of a remote."""
    clone = make_clone(tmp_path / "clone")
    repository = find_repository(clone, host="h")
    assert repository
    address = f"http://me:{QUOTED}@{server}/x.git"
    if named:
        git(clone, "remote", "add", "there", address)
    remote = Remote(repository, "there" if named else address)
    commit = git(clone, "rev-parse", "HEAD")
    seen = _Asks.seen
    with watched(seen):
        with pytest.raises(RemoteError) as fetched:
            remote.fetch("b")
        with pytest.raises(RemoteError) as pushed:
            remote.push(commit, "b")
    expected = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert _Asks.said.count(f"Basic {expected}") >= 2
    for text in (*seen, str(fetched.value), str(pushed.value), remote.public_address):
        assert PASSWORD not in text
        assert QUOTED not in text


@pytest.mark.parametrize(
    "address",
    ["origin", "/path/to", "git@host:me/runs", "ssh://git@host/x", "https://me@host/x.git"],
)
def test_an_address_without_a_password_stays(address: str) -> None:
    """As the user gave it, with the user's own helpers."""
    public = hide_password(address)
    assert (public.address, public.options, public.environ) == (address, (), {})

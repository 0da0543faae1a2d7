"""Programs that ask for what they may not have, or in a way that should confuse or exhaust."""

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from runner.gateway.asking import MOST_AT_ONCE
from runner.gateway.server import MOST_CONNECTIONS, MOST_NAMED
from tests.conftest import until
from tests.gateway.desk import CHAT, Answer, Caller, Desk, prompt
from tests.gateway.test_server import final
from tests.provider import KEY

pytestmark = pytest.mark.timeout(120)

BODY = json.dumps(prompt()).encode()
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n".encode()
# So that the end of an answer is that of its connection.
CLOSE = b"Connection: close\r\n"
FILES = b"POST /openai/v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/openai/v1/files"),
        ("POST", "/openai/v1/batches"),
        ("POST", "/openai/v1/fine_tuning/jobs"),
        ("GET", "/openai/v1/files"),
        ("GET", CHAT),
        ("DELETE", "/openai/v1/models/m"),
        ("OPTIONS", "/openai/v1/models"),
        ("GET", "/openai/v1/models/../files"),
        ("GET", "/openai/v1/models/m/../../files"),
        ("GET", "/openai/v1/models/./m"),
        ("GET", "/openai/v1/models//files"),
        ("GET", "/openai/v1/models/%2e%2e/files"),
        ("POST", "/openai/openai/deployments/../chat/completions"),
        ("POST", "/openai/v1/chat/completions/../../files"),
        ("POST", "/openai/v1/files#/v1/chat/completions"),
        ("POST", "/openai/v1/files?/v1/chat/completions"),
        ("POST", "/openai/v1/chat/completions;/files"),
        ("GET", "/openai/v1/models/m@elsewhere"),
        ("POST", "/unknown/v1/chat/completions"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/"),
    ],
)
def test_what_nobody_may_ask_for_is_not_sent(here: Desk, method: str, path: str) -> None:
    """Nobody retries it, and the attempt's account names it."""
    got = here.enter("a").ask(prompt(), method=method, path=path)
    assert final(got) == (404, "false")
    assert got.json["error"]["message"]
    assert here.stub.requests() == []
    assert here.account("a").refused == [got.json["error"]["message"]]


def test_an_account_names_only_so_much(here: Desk) -> None:
    """However much is tried, and however long its name is."""
    caller = here.enter("a")
    for number in range(MOST_NAMED + 5):
        caller.ask(prompt(), path=f"/openai/v1/{number}{'x' * 5000}")
    refused = here.account("a").refused
    assert len(refused) == MOST_NAMED
    assert max(map(len, refused)) < 300


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_a_body_that_is_no_json_is_refused(here: Desk, body: bytes) -> None:
    """Nothing is sent."""
    got = here.enter("a").ask(body)
    assert final(got) == (400, "false")
    assert here.stub.requests() == []


@pytest.mark.parametrize(
    "sent",
    [
        HEAD
        + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(BODY)
        + FILES,
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + FILES,
        HEAD + b"Content-Length: 4\r\nContent-Length: %d\r\n\r\n" % len(FILES) + FILES,
        HEAD + b"Content-Length: -1\r\n\r\n" + FILES,
        HEAD + b"Content-Length: +5\r\n\r\n" + FILES,
        HEAD + b"Content-Length: 1e3\r\n\r\n" + FILES,
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + FILES,
        HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + FILES,
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + FILES,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + FILES,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + FILES,
        HEAD + CLOSE + b"Content-Length: %d\r\n\r\n" % len(BODY + FILES) + BODY + FILES,
        HEAD + b" folded: x\r\nContent-Length: 0\r\n\r\n" + FILES,
        HEAD + b"anthropic-version: 1\rX: y\r\nContent-Length: 2\r\n\r\n{}" + FILES,
        HEAD + b"anthropic-version: 1\x00\r\nContent-Length: 2\r\n\r\n{}" + FILES,
        b"GET http://elsewhere/v1/files HTTP/1.1\r\nHost: h\r\n" + CLOSE + b"\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: h\r\n" + CLOSE + b"\r\n",
        b"GET /openai/v1/models/m HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x00\xff no HTTP\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_requests_cannot_be_smuggled(here: Desk, sent: bytes) -> None:
    """What can be read in two ways is refused; what is let through is one request that may be."""
    here.enter("a").raw(sent)
    assert [each.path for each in here.stub.requests()] == []
    assert here.enter("a").ask(prompt()).status == 200


def test_one_after_the_other_on_a_connection_is_each_its_own(here: Desk) -> None:
    """A second request behind the first, in the same packet, is checked as any."""
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    heard = here.enter("a").raw(
        whole + FILES + whole.replace(b"Host: h\r\n", b"Host: h\r\nConnection: close\r\n")
    )
    assert heard.count(b"HTTP/1.1 200") == 2
    assert heard.count(b"HTTP/1.1 404") == 1
    assert [each.path for each in here.stub.requests()] == ["/v1/chat/completions"] * 2


def test_only_what_changes_the_meaning_reaches_the_provider(here: Desk) -> None:
    """No header of an eval's own speaks for the user, and the key is the gateway's."""
    own = {
        "Authorization": "Bearer own",
        "api-key": "own",
        "x-api-key": "own",
        "OpenAI-Organization": "org-own",
        "OpenAI-Project": "own",
        "OpenAI-Beta": "assistants=v2",
        "Cookie": "own=1",
        "Host": "own.example",
        "Forwarded": "for=own",
        "X-Forwarded-For": "1.2.3.4",
        "X-HTTP-Method-Override": "DELETE",
        "Connection": "X-Own, keep-alive",
        "X-Own": "1",
        "X-Evalset-Sample": "s.1",
        "x-evalset-other": "own",
        "User-Agent": "own",
    }
    assert here.enter("a").ask(prompt(), headers=own).status == 200
    (request,) = here.stub.requests()
    came = {name.lower(): value for name, value in request.headers}
    assert not [name for name in came if name.startswith("x-")]
    assert came["authorization"] == f"Bearer {KEY}"
    assert came["openai-beta"] == "assistants=v2"
    assert "own" not in str(came)
    assert len(request.headers) == len(came)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many connections as it may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
def test_a_flood_of_connections_is_the_floods_own_trouble(here: Desk) -> None:
    """Others are served; so is who flooded, once it has stopped. Some say half a request."""
    flooding, other = here.enter("a"), here.enter("b")
    starts = [b"", b"POST", HEAD, HEAD + b"Content-Length: 1000\r\n\r\n{"]
    with ExitStack() as stack:
        for number in range(MOST_CONNECTIONS + 50):
            connection = stack.enter_context(closing(flooding.connect()))
            with suppress(OSError):  # it is closed if it is one too many
                connection.sock.sendall(starts[number % len(starts)])
        assert other.ask(prompt()).status == 200
        assert {flooding.name, other.name} <= set(here.standing().attempts)
        with pytest.raises(OSError, match=r".*"):
            flooding.ask(prompt("two"))
    assert until(lambda: _answered(flooding)).status == 200


def test_slow_requests_hold_nobody_else(here: Desk) -> None:
    """Each sends a byte now and then and never ends."""
    slow, other = here.enter("a"), here.enter("b")
    over = threading.Event()

    def dribble() -> None:
        with ExitStack() as stack:
            connections = [stack.enter_context(closing(slow.connect())) for _ in range(200)]
            for connection in connections:
                connection.sock.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
            while not over.wait(0.05):
                for connection in connections:
                    connection.sock.sendall(b" ")

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        for _ in range(5):
            assert other.ask(prompt()).status == 200
            assert slow.ask(prompt()).status == 200
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("many_files")
def test_bodies_of_one_attempt_have_a_limit_together(alone: Desk) -> None:
    """Else a thousand of them would take the machine's memory; others have their own."""
    flooding, other = alone.enter("a"), alone.enter("b")
    most = HEAD + b"Content-Length: 30000000\r\n\r\n" + b" " * 29_000_000
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(closing(flooding.connect(1)))
            with suppress(OSError):
                connection.sock.sendall(most)
        assert other.ask(prompt("x" * 20_000_000)).status == 200
        assert _memory(alone.standing().pid) < 1500 * 2**20
    assert until(lambda: _answered(flooding)).status == 200


@pytest.mark.usefixtures("many_files")
def test_requests_of_one_attempt_are_sent_so_many_at_once(alone: Desk) -> None:
    """What is more waits; requests of others do not wait for it."""
    alone.stub.behave(way="hang")
    flooding, other = alone.enter("a"), alone.enter("b", "another")
    with ExitStack() as stack:
        for number in range(MOST_AT_ONCE + 50):
            stack.enter_context(closing(flooding.begin(prompt(str(number)))))
        until(lambda: len(alone.stub.requests()) == MOST_AT_ONCE, 60)
        alone.stub.behave()
        assert other.ask(prompt()).status == 200
        assert len(alone.stub.requests()) == MOST_AT_ONCE + 1


def test_the_log_does_not_grow_with_what_is_wrong(alone: Desk) -> None:
    """A program could fill the disk with it."""
    caller = alone.enter("a")
    for _ in range(300):
        caller.raw(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        connection = caller.connect()
        connection.sock.sendall(HEAD + b"Content-Length: 9\r\n\r\n{")
        connection.close()
    caller.ask(prompt())
    assert (alone.layout.gateway / "gateway.log").stat().st_size < 5000


def test_attempts_cannot_reach_what_the_run_asks(here: Desk) -> None:
    """The socket in a container does not lead to the gateway's own paths."""
    caller = here.enter("a")
    for method, path in (("POST", "/end"), ("PUT", "/config"), ("POST", "/attempts")):
        assert caller.ask({}, method=method, path=path).status == 404
    assert caller.name in here.standing().attempts


def _answered(caller: Caller) -> Answer | None:
    with suppress(OSError):
        return caller.ask(prompt(), timeout=5)
    return None


def _memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    status = Path("/proc", str(pid), "status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

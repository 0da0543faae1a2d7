"""A model provider on loopback, for tests and the bench: it bills, and fails as it is told.

It is a process of its own, `tests/provider_process.py`, so that a test's process does not slow it.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

ROOT = Path(__file__).parents[1]

# What it asks for unless it is told otherwise. It stands on no command line and in no environment.
KEY = "stub-key-of-the-provider"

# Headers of its answers that nobody should keep.
COOKIE = "__cf_bm=stub-cookie"
ORGANIZATION = "org-stub-organization"

Way = Literal[
    "answer", "reset", "late reset", "hang", "late hang", "cut", "short", "garbage", "noise", "html"
]


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request gets.

    Attributes:
        way: `answer`: an answer, or an error where `status` says so.
            `reset`: the connection is reset, and nothing billed.
            `late reset`: billed, then reset before the first byte.
            `hang`, `late hang`: the same, but it is silent until the client goes.
            `cut`: the connection is closed in the middle of the answer or stream.
            `short`: the answer or stream is half as long, but properly ended.
            `garbage`: the body, or the second event of a stream, is no JSON, though it should be.
            `noise`: what comes is no HTTP.
            `html`: a page.
        status: of the answer; only 200 to 299 are billed.
        code: of the error, such as `insufficient_quota`; "" is what is usual with the status.
        error: the whole body of the error; "" is one with the code, as the provider has them.
        retry_after: seconds, for the header; any status has it.
        retry_after_ms: milliseconds, for the header.
        headers: more of them.
        delay: seconds before billing and answering.
        pieces: of text in a stream.
        piece_delay: seconds between what a stream sends.
        gzip: whether to compress, whatever the client accepts.
        size: least bytes of an answer that has a text, exact unless it is a stream.
        answer: the text; `{bill}` becomes the bill's number, `{echo}` the user's last message.
        tokens: of the answer, unless the request allows fewer.
    """

    way: Way = "answer"
    status: int = 200
    code: str = ""
    error: str = ""
    retry_after: float | None = None
    retry_after_ms: int | None = None
    headers: dict[str, str] = {}
    delay: float = 0
    pieces: int = 3
    piece_delay: float = 0
    gzip: bool = False
    size: int = 0
    answer: str = "bill {bill}"
    tokens: int = 5


class Behaviour(Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What requests get, and which are refused.

    Attributes:
        script: what the first requests get, one each, where it differs from the rest of this. Only
            POST requests count, and only those that the provider does not refuse by itself.
        key: that requests must have.
        rpm: POST requests a minute, beyond which they get a 429; 0 is no limit.
        window: seconds in which `rpm` is counted: with 600 and 1, ten in any second.
        models: ids that `GET /v1/models` lists; requests may name others.
        no_model: the body of the 404 that a GET request for a single model gets, whether it is
            listed or not, as many servers have; "" is OpenAI's, for those that are not listed.
        owned_by: who owns those that are listed.
        has_more: whether the list continues.
        listed: the body with the list; "" is OpenAI's, of these models.
    """

    script: list[dict[str, object]] = []
    key: str = KEY
    rpm: int = 0
    window: float = 60
    models: tuple[str, ...] = ("gpt-3.5-turbo", "gpt-4o-mini", "text-embedding-3-small")
    no_model: str = ""
    owned_by: str = "stub"
    has_more: bool = False
    listed: str = ""

    def step(self, number: int) -> Step:
        """What the POST request of this number, from 0, gets."""
        entry = self.script[number] if number < len(self.script) else {}
        own = {name: getattr(self, name) for name in Step.__struct_fields__}
        return msgspec.convert({**own, **entry}, Step)


class Tokens(msgspec.Struct, frozen=True):
    """Tokens of a bill: words of the prompt, and what the answer has."""

    input: int
    output: int


class Bill(msgspec.Struct, frozen=True, tag_field="kind", tag="billed"):
    """What was billed, on disk before the answer's first byte.

    Attributes:
        bill: its number, from 1; the answer names it in its text and its id.
        request: number of the request.
        path: with the query.
        key: of the body, as `body_key` gives it.
        at: when, in seconds of the machine's monotonic clock.
        tokens: in and out.
    """

    bill: int
    request: int
    path: str
    key: str
    at: float
    tokens: Tokens


class Refusal(msgspec.Struct, frozen=True, tag_field="kind", tag="refused"):
    """What was answered with an error, and not billed.

    Attributes:
        request: number of the request.
        path: with the query.
        key: of the body, as `body_key` gives it.
        at: when, in seconds of the machine's monotonic clock.
        status: of the answer.
        until: before when nothing should come, by the headers; None without them.
    """

    request: int
    path: str
    key: str
    at: float
    status: int
    until: float | None


class Departure(msgspec.Struct, frozen=True, tag_field="kind", tag="left"):
    """A client that went before it had its answer."""

    request: int
    at: float


class Request(msgspec.Struct, frozen=True):
    """What came, refused or not, with its whole body.

    Attributes:
        number: from 1, in the order in which they came.
        at: when, in seconds of the machine's monotonic clock.
        connection: the client's port.
        open: how many requests were under way then, this one included.
        method: such as POST.
        path: with the query.
        headers: names and values as they came.
        body: as text.
    """

    number: int
    at: float
    connection: int
    open: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: str


Entry = Bill | Refusal | Departure


def body_key(body: object) -> str:
    """SHA-256 of a body's canonical JSON; bytes are taken as they are."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body, order="sorted")
    return hashlib.sha256(data).hexdigest()


def ledger_of(folder: Path) -> Path:
    """The ledger's file: one entry a line, synced."""
    return folder / "ledger.jsonl"


def requests_of(folder: Path) -> Path:
    """The file of requests, one a line. It has the key, as headers have it."""
    return folder / "requests.jsonl"


def read_lines(path: Path, kind: object) -> list[Any]:
    """What the whole lines of a file hold, of one kind; [] if the file is missing."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=kind) for line in whole.splitlines()]


class Provider:
    """A provider that runs.

    Attributes:
        url: such as http://127.0.0.1:40001, without /v1.
        port: the same port.
        folder: where its ledger, its requests and its log are.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def bills(self) -> list[Bill]:
        """What was billed, in order."""
        return [each for each in self._ledger() if isinstance(each, Bill)]

    def refusals(self) -> list[Refusal]:
        """What was answered with an error, in order."""
        return [each for each in self._ledger() if isinstance(each, Refusal)]

    def departures(self) -> list[Departure]:
        """Clients that went before they had their answer, in order."""
        return [each for each in self._ledger() if isinstance(each, Departure)]

    def requests(self) -> list[Request]:
        """All requests, in order; those that change the behaviour are none."""
        return read_lines(requests_of(self.folder), Request)

    def behave(self, **behaviour: object) -> None:
        """From now on, behave as at the start, but for what is named here.

        A script that is under way ends, and that of the start does not come again.

        Raises:
            msgspec.ValidationError: there is no such behaviour.
        """
        _checked(behaviour)
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("POST", "/_behave", msgspec.json.encode(behaviour))
        answer = connection.getresponse()
        assert answer.status == 204, answer.read()
        connection.close()

    def _ledger(self) -> list[Entry]:
        return read_lines(ledger_of(self.folder), Entry)


@contextmanager
def provider(folder: Path, *, port: int = 0, **behaviour: object) -> Iterator[Provider]:
    """Run a provider while the `with` block lasts.

    It speaks OpenAI's, Azure's and Anthropic's HTTP, with the key `KEY`. In a folder that was used
    before, the numbers of bills and requests follow on.

    Args:
        folder: for its files.
        port: on 127.0.0.1; 0 is a free one.
        behaviour: fields of `Behaviour`.

    Raises:
        msgspec.ValidationError: there is no such behaviour.
        AssertionError: the provider itself has a bug, or something came that is no HTTP; its log
            shows which.
    """
    _checked(behaviour)
    log = folder / "provider.log"
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.provider_process", folder, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
        ) as process,
    ):
        try:
            yield Provider(folder, _begin(process, behaviour, log))
        finally:
            process.terminate()
    assert b"Traceback" not in log.read_bytes(), log.read_text()


def _begin(process: "subprocess.Popen[bytes]", behaviour: Mapping[str, object], log: Path) -> int:
    """Tell a process how to behave; gives its port once it listens."""
    told: IO[bytes] | None = process.stdin
    heard: IO[bytes] | None = process.stdout
    assert told
    assert heard
    told.write(msgspec.json.encode(behaviour) + b"\n")
    told.flush()
    line = heard.readline()
    assert line, log.read_text()
    return int(line)


def _checked(behaviour: Mapping[str, object]) -> None:
    whole = msgspec.convert(behaviour, Behaviour)
    for number in range(len(whole.script)):
        whole.step(number)

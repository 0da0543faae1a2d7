import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from runner.files import UNREADABLE, named, write_behind
from runner.records.lines import BLANK, LineFile, written_by_newer

VERSION = 1

# Of HTTP: the usual status, and the first of those that say no.
OK = 200
FIRST_ERROR = 400

# Bytes that are read at once.
_AT_ONCE = 2**20


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens that a provider counted; `cached` are those of `input` that cost less."""

    input: int = 0
    output: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """In and out."""
        return self.input + self.output

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
        )


class Reserved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a request may cost at most; `usd` is None where no price is known."""

    tokens: int = 0
    usd: float | None = None


class _Line(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower, omit_defaults=True
):
    # A default would be left out, what a function gives is not.
    version: int = msgspec.field(default_factory=lambda: VERSION)


class Request(_Line, frozen=True, kw_only=True):
    """What was asked, once for each key.

    Attributes:
        key: stands for the request, whoever asks, whenever and with whichever key.
        route: name of the provider.
        path: with its query, as the provider got it below its address.
        body: as JSON; null where there was none.
    """

    key: str
    route: str
    method: str
    path: str
    body: Any = None


class Sent(_Line, frozen=True, kw_only=True):
    """A request goes to the provider now; it is perhaps paid until another line has its id.

    Attributes:
        id: of this one sending.
        sample: that asked, where the eval said so.
        at: UTC, RFC 3339.
    """

    id: str
    key: str
    attempt: str
    sample: str = ""
    at: str = ""
    model: str = ""
    reserved: Reserved = Reserved()


class Answer(_Line, frozen=True, kw_only=True):
    """What the provider answered; durable before the eval gets the last of it.

    Attributes:
        attempt: to which it is given with that; empty where nobody waited for it any more.
        seconds: from sending to its end.
        headers: those that have a meaning for the eval.
        body: decoded, as text.
        usd: what it cost, where prices were known.
    """

    id: str
    key: str
    attempt: str = ""
    sample: str = ""
    at: str = ""
    seconds: float = 0.0
    status: int = OK
    headers: dict[str, str] = {}
    body: str = ""
    model: str = ""
    usage: Usage | None = None
    usd: float | None = None


class Given(_Line, frozen=True, kw_only=True):
    """An answer on record is given to an attempt.

    Attributes:
        at: UTC, RFC 3339; it tells two lines apart where files are merged.
    """

    id: str
    attempt: str
    at: str = ""


class Returned(_Line, frozen=True, kw_only=True):
    """An answer did not reach the attempt that it was given to, at this time, as above."""

    id: str
    attempt: str
    at: str = ""


class Failed(_Line, frozen=True, kw_only=True):
    """A request has no answer that is worth keeping.

    Attributes:
        status: of the provider's answer; 0 where there was none.
        billed: whether it was paid for; None where nobody knows.
        reason: one line for people.
    """

    id: str
    status: int = 0
    billed: bool | None = None
    reason: str = ""


class Stopped(_Line, frozen=True, kw_only=True):
    """An attempt was refused an answer for good, so that it cannot succeed any more.

    Attributes:
        why: `budget`, `price`, `key` or `quota`.
        reason: one line for people.
    """

    attempt: str
    why: str
    reason: str = ""


AnswersLine = Request | Sent | Answer | Given | Returned | Failed | Stopped


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where an answer lies in its file, so that memory need not hold it.

    Attributes:
        status: of the provider's answer.
        start: of its line, in bytes.
        size: of its line, in bytes.
    """

    id: str
    key: str
    sample: str
    status: int
    start: int
    size: int


class Short(msgspec.Struct, kw_only=True, gc=False):
    """A line of any kind without what is large in it."""

    kind: str
    version: int = VERSION
    id: str = ""
    key: str = ""
    attempt: str = ""
    sample: str = ""
    model: str = ""
    seconds: float = 0.0
    at: str = ""
    status: int = OK
    usage: Usage | None = None
    usd: float | None = None
    billed: bool | None = None
    reserved: Reserved = Reserved()
    why: str = ""
    reason: str = ""


_decode = msgspec.json.Decoder(Short).decode


class _Request(Request, frozen=True, kw_only=True, tag="request"):
    """The same, without its body taken apart: that may be much larger in memory than in a file."""

    body: msgspec.Raw = msgspec.Raw()


_decode_line: Callable[[str], AnswersLine] = msgspec.json.Decoder(
    _Request | Sent | Answer | Given | Returned | Failed | Stopped
).decode


def read_line(line: bytes) -> AnswersLine | None:
    """Read all of a line; None if it cannot be read. The body of a request stays JSON."""
    try:
        text = line.decode()
        _decode(text)
        return _decode_line(text)
    except UNREADABLE:
        return None


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers a file has, and who was given them; `Sums` has what they add up to.

    Attributes:
        kept: the answers in file order.
        requests: keys of the requests that it describes.
        given: ids of the answers that an attempt was given, by attempt.
        stopped: by attempt that cannot succeed any more, why, and one line that says it.
        damaged: as `Sums` has it.
    """

    kept: list[Kept] = []
    requests: set[str] = set()
    given: dict[str, set[str]] = {}
    stopped: dict[str, tuple[str, str]] = {}
    damaged: list[str] = []


def read_answers(path: Path) -> Answers:
    """Read an answers file; reading tolerates what is damaged and never changes it.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    with opened(path) as file:
        return _index(file, str(path))


def parse_answers(content: bytes, source: str) -> Answers:
    """Read what an answers file holds; `source` is what messages call it."""
    return _index(io.BytesIO(content), source)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read from; one that is not there is empty."""
    with named(path, "read"):
        try:
            file: BinaryIO = path.open("rb", buffering=_AT_ONCE)
        except FileNotFoundError:
            file = io.BytesIO()
        with file:
            yield file


def _index(file: BinaryIO, source: str) -> Answers:
    lines = ShortLines(file, source)
    kept: dict[str, Kept] = {}
    requests: dict[str, str] = {}
    given: defaultdict[str, set[str]] = defaultdict(set)
    stopped: dict[str, tuple[str, str]] = {}
    for start, size, line in lines:
        kind, name = line.kind, line.id
        if kind == "request":
            requests[line.key] = line.key
        elif kind == "answer" and name not in kept:
            kept[name] = Kept(
                id=name,
                key=requests.get(line.key, line.key),  # one text for both
                sample=line.sample,
                status=line.status,
                start=start,
                size=size,
            )
            if line.attempt:
                given[line.attempt].add(name)
        elif kind == "given":
            given[line.attempt].add(name)
        elif kind == "returned":
            given[line.attempt].discard(name)
        elif kind == "stopped":
            stopped.setdefault(line.attempt, (line.why, line.reason))
    return Answers(
        kept=list(kept.values()),
        requests=set(requests),
        given=dict(given),
        stopped=stopped,
        damaged=lines.damaged(),
    )


class ShortLines:
    """The lines of a file that can be read, each with where it starts and its size."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self._source = source
        self._damaged: list[int] = []
        self._newer: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int, Short]]:
        end = 0
        for number, line in enumerate(self._file, start=1):
            start, end = end, end + len(line)
            try:
                short = _decode(line)
            except UNREADABLE:
                text = line.strip(BLANK)  # a power loss leaves zero bytes around some
                found = _short(text)
                if found is None:
                    if text and line.endswith(b"\n"):  # a torn last line is none that is damaged
                        self._damaged.append(number)
                    continue
                start, line, short = start + line.index(text), text, found  # noqa: PLW2901 - its text
            if short.version > VERSION:
                self._newer.append(number)
            yield start, len(line) - line.endswith(b"\n"), short

    def damaged(self) -> list[str]:
        """A message for each line that cannot be read, or not all of it."""
        found = [
            f"{self._source}: line {number} cannot be read and is left as it is"
            for number in self._damaged
        ]
        return [*found, *written_by_newer(self._source, self._newer)]


def _short(line: bytes) -> Short | None:
    try:
        return _decode(line)
    except UNREADABLE:
        return None


def _encoded(line: AnswersLine) -> bytes:
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:  # half of a surrogate pair, which no reader takes; `?` stands for it
        text = json.dumps(msgspec.to_builtins(line), separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="replace")


class AnswersFile(LineFile):
    """An answers file that is written to; `write` and `sync` are apart, so that many share one."""

    def write(self, line: AnswersLine) -> tuple[int, int]:
        """Append a line; on an error the file is as it was before.

        Returns:
            Where it starts, and its size, as `Kept` has them.

        Raises:
            EnvironmentFault: the disk is full, for example.
        """
        content = _encoded(line)
        with named(self.path, "write"):
            write_behind(self._descriptor, content + b"\n", sync=False)
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        return end - len(content) - 1, len(content)

    def sync(self) -> None:
        """Make durable what was written before."""
        with named(self.path, "write"):
            os.fdatasync(self._descriptor)

    def answer(self, kept: Kept) -> Answer:
        """Read an answer."""
        with named(self.path, "read"):
            line = os.pread(self._descriptor, kept.size, kept.start)
        return msgspec.json.decode(line, type=Answer)

    def is_in_place(self) -> bool:
        """Whether the file still has its name."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def read(self) -> Answers:
        """Read all of it, without the texts."""
        return read_answers(self.path)

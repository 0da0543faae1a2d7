"""Answers files: what was asked, answered, given again, and paid for.

Each line is a JSON object with its kind and version. Reading tolerates damaged lines. Writing
appends a line, and makes it durable when it is asked to. answers_index.py knows what lies where.
"""

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from runner.files import UNREADABLE, named, write_behind
from runner.model import Problem
from runner.records.progress import BLANK, LineFile, written_by_newer

VERSION = 1

# Of HTTP: the usual status, and the first of those that say no.
OK = 200
FIRST_ERROR = 400


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
        free: whether no provider takes money for it, as for the list of models.
    """

    id: str
    key: str
    attempt: str
    sample: str = ""
    at: str = ""
    model: str = ""
    reserved: Reserved = Reserved()
    free: bool = False


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
        reason: one line for people.
    """

    attempt: str
    why: Problem
    reason: str = ""


AnswersLine = Request | Sent | Answer | Given | Returned | Failed | Stopped


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
    free: bool = False
    why: Problem = Problem.OTHER
    reason: str = ""


decode_short = msgspec.json.Decoder(Short).decode


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
        decode_short(text)
        return _decode_line(text)
    except UNREADABLE:
        return None


def encoded(line: AnswersLine) -> bytes:
    """A line as JSON, without its end of line."""
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:  # half of a surrogate pair, which no reader takes; `?` stands for it
        text = json.dumps(msgspec.to_builtins(line), separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="replace")


# Bytes that are read at once.
_AT_ONCE = 2**20


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


class PlacedLine(msgspec.Struct, frozen=True, gc=False):
    """A line, where it starts in its file, and its size, as `Kept` has them."""

    line: Short
    start: int
    size: int


class ShortLines:
    """The lines of a file that can be read, from where it is read next.

    Args:
        start: where that is, in bytes.
        lines: how many lines are before it.

    Attributes:
        end: of the last whole line that was read, in bytes.
        lines: how many whole ones there are up to there.
        damaged: numbers of those that cannot be read, or not all of it.
        newer: numbers of those that a newer version wrote.
    """

    def __init__(self, file: BinaryIO, start: int = 0, lines: int = 0) -> None:
        self._file = file
        self.end = start
        self.lines = lines
        self.damaged: list[int] = []
        self.newer: list[int] = []

    def __iter__(self) -> Iterator[PlacedLine]:
        for line in self._file:
            start = self.end
            if is_whole := line.endswith(b"\n"):  # else it may be in the middle of a write
                self.end += len(line)
                self.lines += 1
            try:
                short = decode_short(line)
            except UNREADABLE:
                text = line.strip(BLANK)  # a power loss leaves zero bytes around some
                found = _short(text)
                if found is None:
                    if text and is_whole:  # a torn last line is none that is damaged
                        self.damaged.append(self.lines)
                    continue
                start, line, short = start + line.index(text), text, found  # noqa: PLW2901 - its text
            if short.version > VERSION:
                self.newer.append(self.lines + (not is_whole))
            yield PlacedLine(short, start, len(line) - line.endswith(b"\n"))


def damage(source: str, damaged: Sequence[int], newer: Sequence[int]) -> list[str]:
    """Messages about lines, by their numbers as `ShortLines` has them."""
    messages = [
        f"{source}: line {number} cannot be read and is left as it is" for number in damaged
    ]
    return [*messages, *written_by_newer(source, newer)]


def _short(line: bytes) -> Short | None:
    try:
        return decode_short(line)
    except UNREADABLE:
        return None


class ChangedError(Exception):
    """A line is not where it was: somebody has changed the file, which is only appended to."""


class AnswersFile(LineFile):
    """An answers file that is written to; `write` and `sync` are apart, so that many share one."""

    def write(self, line: AnswersLine) -> tuple[int, int]:
        """Append a line; on an error the file is as it was before.

        Returns:
            Where it starts, and its size, as `Kept` has them.

        Raises:
            EnvironmentFault: the disk is full, for example.
        """
        content = encoded(line)
        with named(self.path, "write"):
            write_behind(self._descriptor, content + b"\n", sync=False)
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        return end - len(content) - 1, len(content)

    def sync(self) -> None:
        """Make durable what was written before."""
        with named(self.path, "write"):
            os.fdatasync(self._descriptor)

    def line(self, start: int, size: int) -> bytes:
        """Read a line, or as much of it as there is."""
        with named(self.path, "read"):
            return os.pread(self._descriptor, size, start)

    def answer(self, kept: Kept) -> Answer:
        """Read an answer.

        Raises:
            ChangedError: it is not where it was.
        """
        try:
            found = msgspec.json.decode(self.line(kept.start, kept.size), type=Answer)
        except UNREADABLE:
            raise ChangedError from None
        if (found.id, found.key) != (kept.id, kept.key):
            raise ChangedError
        return found

    @contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """The same file, even if it has another name by now, to be read from its start."""
        with (
            named(self.path, "read"),
            open(os.dup(self._descriptor), "rb", buffering=_AT_ONCE) as file,  # noqa: PTH123 - no path
        ):
            file.seek(0)
            yield file

    def is_in_place(self) -> bool:
        """Whether the file still has its name."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(found, self.status())

    def status(self) -> os.stat_result:
        """What the system says of the file."""
        return os.fstat(self._descriptor)

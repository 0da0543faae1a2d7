"""Answers files: what they hold, and how they are read and written.

Reading tolerates damaged lines. Writing appends a line, and makes it durable when it is asked to.
"""

import io
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from runner.files import UNREADABLE, named, write_behind
from runner.records.answers import VERSION, Answer, AnswersLine, Short, decode_short, encoded
from runner.records.progress import BLANK, LineFile, written_by_newer

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
    for place in lines:
        line = place.line
        kind, name = line.kind, line.id
        if kind == "request":
            requests[line.key] = line.key
        elif kind == "answer" and name not in kept:
            kept[name] = Kept(
                id=name,
                key=requests.get(line.key, line.key),  # one text for both
                sample=line.sample,
                status=line.status,
                start=place.start,
                size=place.size,
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


class PlacedLine(msgspec.Struct, frozen=True, gc=False):
    """A line, where it starts in its file, and its size, as `Kept` has them."""

    line: Short
    start: int
    size: int


class ShortLines:
    """The lines of a file that can be read."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self._source = source
        self._damaged: list[int] = []
        self._newer: list[int] = []

    def __iter__(self) -> Iterator[PlacedLine]:
        end = 0
        for number, line in enumerate(self._file, start=1):
            start, end = end, end + len(line)
            try:
                short = decode_short(line)
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
            yield PlacedLine(short, start, len(line) - line.endswith(b"\n"))

    def damaged(self) -> list[str]:
        """A message for each line that cannot be read, or not all of it."""
        found = [
            f"{self._source}: line {number} cannot be read and is left as it is"
            for number in self._damaged
        ]
        return [*found, *written_by_newer(self._source, self._newer)]


def _short(line: bytes) -> Short | None:
    try:
        return decode_short(line)
    except UNREADABLE:
        return None


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

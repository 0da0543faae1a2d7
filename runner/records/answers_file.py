"""Answers files: how they are read and written; answers_index.py knows what lies where in them.

Reading tolerates damaged lines. Writing appends a line, and makes it durable when it is asked to.
"""

import io
import os
from collections.abc import Iterator, Sequence
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

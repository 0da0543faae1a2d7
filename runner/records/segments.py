"""Segments: lines of an answers file, compressed, under a name of their own: pure."""

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Self

import msgspec

# Bytes of lines in one segment, unless a single line has more.
MOST = 8 * 2**20

# Bytes of a single line that is larger; more is meant to fill memory. The largest answer that a
# gateway takes, as a text in JSON, is less.
LARGEST = 128 * 2**20

# As `Layout.answers_of` calls an eval's file, without the ending.
_EVAL = re.compile(r"[a-zA-Z0-9_.-]{0,100}\.[0-9a-f]{16}")
_NAME = re.compile(r"([0-9]{8,12})-([0-9a-f]{16})\.jsonl\.gz")


class DamagedError(Exception):
    """A segment is not what its name says, cannot be unpacked, or unpacks to more than any has."""


class SegmentName(msgspec.Struct, frozen=True, order=True):
    """Which segment it is; those of an eval sort as their lines were written.

    Attributes:
        eval: name of its answers file, without the ending.
        first: number of its first line, counted from 1, in the file of the host that made it.
        digest: sixteen hex digits of the SHA-256 of what is stored.
    """

    eval: str
    first: int
    digest: str

    @classmethod
    def read(cls, path: str) -> Self | None:
        """Take apart the last two parts of a path; None if they are not those of a segment."""
        parts = PurePosixPath(path).parts
        found = _NAME.fullmatch(parts[-1]) if len(parts) > 1 else None
        if found is None or not is_eval(parts[-2]):
            return None
        return cls(parts[-2], int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.eval}/{self.first:08}-{self.digest}.jsonl.gz"

    def lines(self, stored: bytes) -> bytes:
        """Unpack what is stored under this name.

        Raises:
            DamagedError: it is not what was stored.
        """
        if not self.is_of(stored):
            raise DamagedError
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(stored)) as file:
                lines = file.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedError from error
        if len(lines) > LARGEST or (len(lines) > MOST and lines.count(b"\n") > 1):
            raise DamagedError
        return lines

    def is_of(self, stored: bytes) -> bool:
        """Whether this is the name of what is stored."""
        return self.digest == _digest(stored)


def is_eval(name: str) -> bool:
    """Whether an answers file may have this name, without the ending."""
    return _EVAL.fullmatch(name) is not None


def pack(eval_: str, first: int, lines: Iterable[bytes]) -> tuple[SegmentName, bytes]:
    """Make a segment; the same lines are the same bytes each time.

    Args:
        eval_: name of the answers file, without the ending.
        first: as `SegmentName` has it.
        lines: each with its newline.
    """
    target = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as file:
        file.writelines(lines)
    stored = target.getvalue()
    return SegmentName(eval_, first, _digest(stored)), stored


def grouped(lines: Iterable[tuple[int, bytes]], most: int) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines in groups of at most so many bytes; a longer line is a group of its own."""
    group: list[tuple[int, bytes]] = []
    size = 0
    for number, line in lines:
        if group and size + len(line) > most:
            yield group
            group, size = [], 0
        group.append((number, line))
        size += len(line)
    if group:
        yield group


def _digest(stored: bytes) -> str:
    return hashlib.sha256(stored).hexdigest()[:16]

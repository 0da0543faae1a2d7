"""The files of a snapshot: what each is, segments of answers files, and how two are merged.

Merging is by meaning: commutative, associative and idempotent, whatever is merged.
"""

import enum
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Self

import msgspec

from runner.files import UNREADABLE
from runner.plan.pins import VERSION
from runner.records.run_file import parse_run_file, version_of

# Bytes of lines in one segment, unless a single line has more.
MOST_OF_A_SEGMENT = 8 * 2**20

# Bytes of a single line that is larger; more is meant to fill memory. The largest answer that a
# gateway takes, as a text in JSON, is less.
LARGEST_LINE = 128 * 2**20

# As `Layout.answers_of` calls an eval's file, without the ending.
_EVAL = re.compile(r"[a-zA-Z0-9_.-]{0,100}\.[0-9a-f]{16}")
_NAME = re.compile(r"([0-9]{8,12})-([0-9a-f]{16})\.jsonl\.gz")

# The branch's page, made again from what was merged.
README = "README.md"

# Byte order marks, which some editors put before a file, and so before a line of it.
_MARKS = re.compile(rb"^(?:\xef\xbb\xbf)+")

# How the names of files end whose lines stand each for itself.
_LINES = (".progress.txt", ".attempts.jsonl", ".data.jsonl", ".left-out.jsonl", ".torn")

_DATED = re.compile(r"\.\d{8}T\d{6}\.\d+Z$")

# A reason that may be gone with the next snapshot: the limit is an option.
TOO_LARGE = "larger than --snapshot-max-file, compressed too"


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
                lines = file.read(LARGEST_LINE + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedError from error
        if len(lines) > LARGEST_LINE or (len(lines) > MOST_OF_A_SEGMENT and lines.count(b"\n") > 1):
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


class FileKind(enum.Enum):
    """What a file of a snapshot is, which says how two of them are merged."""

    LINES = "lines"
    RUN = "run"
    README = "readme"
    WHOLE = "whole"


def kind_of(path: str) -> FileKind:
    """Tell by its path, from the top of the snapshot, what a file is."""
    if path == README:
        return FileKind.README
    if not path.startswith("oaievalset/") or _DATED.search(path):
        return FileKind.WHOLE
    if path.endswith(_LINES):
        return FileKind.LINES
    if path.endswith(".run.json"):
        return FileKind.RUN
    return FileKind.WHOLE


def merge(path: str, one: bytes, other: bytes) -> bytes:
    """Merge two versions of a file; `path` is as in `kind_of`."""
    match kind_of(path):
        case FileKind.LINES:
            return _merge_lines(one, other)
        case FileKind.RUN:
            return max(one, other, key=_Age.of)
        case FileKind.WHOLE | FileKind.README:
            return max(
                one, other, key=lambda content: (_is_intact(path, content), len(content), content)
            )


def merge_files(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> dict[str, bytes]:
    """Merge the files of two snapshots, by path."""
    merged = dict(one)
    for path, content in other.items():
        merged[path] = merge(path, merged[path], content) if path in merged else content
    return merged


def lines_of(content: bytes) -> list[bytes]:
    """The different lines of a file, in order; a last line without its newline is no line yet."""
    lines = (_MARKS.sub(b"", line) for line in content.split(b"\n")[:-1])
    return list(dict.fromkeys(line for line in lines if line.strip()))


def _merge_lines(one: bytes, other: bytes) -> bytes:
    """Give the lines of both, each once.

    A version that has all lines keeps its order, which is that of time; else they are sorted.
    """
    versions = [lines_of(one), lines_of(other)]
    all_lines = sorted({line for lines in versions for line in lines})
    whole = (lines for lines in versions if len(lines) == len(all_lines) and lines != all_lines)
    chosen = min(whole, default=all_lines)
    return b"".join(line + b"\n" for line in chosen)


def _is_intact(path: str, content: bytes) -> bool:
    """Whether a segment of answers is what its name says; of other files nobody can tell."""
    name = SegmentName.read(path) if path.startswith("answers/") else None
    return name is not None and name.is_of(content)


class _Age(msgspec.Struct, frozen=True, order=True):
    """Orders versions of a run's file as readers do; the greatest is the newest.

    A file that cannot be read is the oldest. One that a newer evalset wrote is the newest, because
    this evalset must not replace it.

    Attributes:
        newer: 0 for a file that can be read, its version for one of a newer evalset, else -1.
        age: as `RunFile` has it.
        content: decides between files of the same age.
    """

    newer: int
    age: tuple[int, str]
    content: bytes

    @classmethod
    def of(cls, content: bytes) -> "_Age":
        file = parse_run_file(content)
        if file is not None:
            return cls(0, file.age, content)
        version = version_of(content)
        return cls(version if version > VERSION else -1, (-1, ""), content)


class ExcludedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a line of one, that stays on its host; one line of a `.left-out.jsonl`.

    Attributes:
        path: relative to the progress directory; for a name that holds a secret, its hash.
        reason: one line for people.
        size: in bytes.
        sha256: of its content, in hex.
    """

    version: int = 1
    path: str
    host: str
    reason: str
    size: int
    sha256: str

    @classmethod
    def read(cls, content: bytes) -> list[Self]:
        """The lines that can be read."""
        found = []
        for line in lines_of(content):
            with suppress(*UNREADABLE):
                found.append(msgspec.json.decode(line, type=cls))
        return found

    @property
    def line(self) -> bytes:
        """The line that keeps it."""
        return msgspec.json.encode(self) + b"\n"

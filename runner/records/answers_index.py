"""What lies where in an answers file, so that a gateway need not hold all of it in memory.

The index of a large file is saved next to it, as `.{name}.index`, so that the next gateway need not
read all of it, either. It may be deleted at any time.
"""

import struct
import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from runner.errors import EnvironmentFault
from runner.files import UNFINISHED, UNREADABLE, appearing_whole, named
from runner.model import Problem
from runner.records.answers import (
    AnswersFile,
    ChangedError,
    Kept,
    PlacedLine,
    Short,
    ShortLines,
    decode_short,
)

# Bytes of an answers file, beyond its saved index, that are worth saving another one.
WORTH = 2**21

# Rows of tables, whose order is that of their bytes: the start of a key, the kind of a line, its
# place and its size; the start of an id.
_PLACE = struct.Struct(">16scQQ")
_OF_KEY = struct.Struct(">16sc")
_ID = struct.Struct(">16s")
_REQUEST = b"r"
_ANSWER = b"a"
_KINDS = {_REQUEST: "request", _ANSWER: "answer"}

# How a saved index begins: what it is, the checksum of the rest, and the sizes of its first parts.
_FIRST = struct.Struct(">16sIQQ")
_MAGIC = b"evalset index 1\n"

# Bytes before the end of what an index covers by which the file is known again.
_LAST = 2**16

# Reads bytes of an answers file: from where, and how many.
Read = Callable[[int, int], bytes]

_decode_ids = msgspec.json.Decoder(list[str]).decode


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What an answers file has, up to the end of a line.

    Attributes:
        size: bytes up to there.
        lines: how many these are.
        saved: bytes that the saved index covers.
        places: tables of where requests and answers are, sorted rows of `_PLACE`.
        ids: tables of the answers' ids, sorted rows of `_ID`.
        given: ids of the answers that an attempt was given, as JSON, by attempt.
        stopped: by attempt that cannot succeed any more, why, and one line that says it.
        damaged: as `ShortLines` has it.
        newer: as `ShortLines` has it.
    """

    size: int = 0
    lines: int = 0
    saved: int = 0
    places: tuple[bytes, ...] = ()
    ids: tuple[bytes, ...] = ()
    given: dict[str, bytes] = {}
    stopped: dict[str, tuple[Problem, str]] = {}
    damaged: list[int] = []
    newer: list[int] = []

    def kept(self, key: str, read: Read) -> list[Kept]:
        """The answers to a request, in the order of the file.

        Raises:
            ChangedError: the file is not the one that the index is of.
        """
        return [
            Kept(
                id=line.id,
                key=key,
                sample=line.sample,
                status=line.status,
                start=place.start,
                size=place.size,
            )
            for place in self._lines(key, _ANSWER, read)
            if (line := place.line).key == key
        ]

    def describes(self, key: str, read: Read) -> bool:
        """Whether the file says what a request was; errors as with `kept`."""
        return any(place.line.key == key for place in self._lines(key, _REQUEST, read))

    def given_to(self, attempt: str) -> set[str]:
        """Ids of the answers that an attempt was given."""
        return set(_decode_ids(self.given.get(attempt, b"[]")))

    def _lines(self, key: str, kind: bytes, read: Read) -> Iterator[PlacedLine]:
        """Lines whose keys begin alike."""
        of_key = _OF_KEY.pack(key.encode(), kind)
        for row in _rows_from(self.places, _PLACE, of_key):
            *_, start, size = _PLACE.unpack(row)
            line = _decoded(read(start, size))
            if (
                line is None
                or line.kind != _KINDS[kind]
                or _OF_KEY.pack(line.key.encode(), kind) != of_key
            ):
                raise ChangedError
            yield PlacedLine(line, start, size)

    def has_id(self, name: str) -> bool:
        """Whether it perhaps has an answer with this id; if not, it has none."""
        return any(True for _ in _rows_from(self.ids, _ID, _ID.pack(name.encode())))


def _decoded(line: bytes) -> Short | None:
    try:
        return decode_short(line)
    except UNREADABLE:
        return None


def _rows(tables: Iterable[bytes], form: struct.Struct) -> Iterator[bytes]:
    return (
        table[at : at + form.size] for table in tables for at in range(0, len(table), form.size)
    )


def _rows_from(tables: Iterable[bytes], form: struct.Struct, start: bytes) -> Iterator[bytes]:
    """The rows that begin with these bytes."""
    width = form.size
    for table in tables:

        def beginning(row: int, table: bytes = table) -> bytes:
            return table[row * width : row * width + len(start)]

        count = len(table) // width
        for row in range(bisect_left(range(count), start, key=beginning), count):
            if beginning(row) != start:
                break
            yield table[row * width : (row + 1) * width]


def _table(rows: Iterable[bytes]) -> bytes:
    return b"".join(sorted(rows))


def read_index(file: AnswersFile, known: Index | None = None) -> Index:
    """What a file has; it is saved if much of it is new.

    Args:
        known: what the file had before, so that only the rest is read; None is what was saved.

    Raises:
        EnvironmentFault: the file cannot be read.
    """
    with file.reading() as content:
        index = index_of(content, _saved(file) if known is None else known)
    if is_worth_saving(file, index):
        with suppress(EnvironmentFault):  # then more is read the next time
            _save(file, index)
            return msgspec.structs.replace(index, saved=index.size)
    return index


def index_of(content: BinaryIO, known: Index | None = None) -> Index:
    """What the content of an answers file has, of which a part may be known."""
    try:
        return _index(content, known or Index())
    except _TwiceError:
        return _index(content, Index())


class _TwiceError(Exception):
    """An answer is perhaps there twice, once in what is known."""


def _index(content: BinaryIO, known: Index) -> Index:
    content.seek(known.size)
    lines = ShortLines(content, known.size, known.lines)
    places: list[bytes] = []
    ids: set[str] = set()
    given = _Given(known)
    stopped = dict(known.stopped)
    for place in lines:
        line = place.line
        kind, name = line.kind, line.id
        if kind == "request":
            places.append(_PLACE.pack(line.key.encode(), _REQUEST, place.start, place.size))
        elif kind == "answer" and name not in ids:
            if known.ids and known.has_id(name):
                raise _TwiceError
            ids.add(name)
            places.append(_PLACE.pack(line.key.encode(), _ANSWER, place.start, place.size))
            if line.attempt:
                given[line.attempt].add(name)
        elif kind == "given":
            given[line.attempt].add(name)
        elif kind == "returned":
            given[line.attempt].discard(name)
        elif kind == "stopped":
            stopped.setdefault(line.attempt, (line.why, line.reason))
    return Index(
        size=lines.end,
        lines=lines.lines,
        saved=known.saved,
        places=(*known.places, _table(places)),
        ids=(*known.ids, _table(_ID.pack(name.encode()) for name in ids)),
        given=known.given | {name: msgspec.json.encode(given[name]) for name in given},
        stopped=stopped,
        damaged=known.damaged + lines.damaged,
        newer=known.newer + lines.newer,
    )


class _Given(defaultdict[str, set[str]]):
    """Ids of the answers that attempts were given, of those whose change."""

    def __init__(self, known: Index) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, attempt: str) -> set[str]:
        self[attempt] = found = self._known.given_to(attempt)
        return found


class _Saved(msgspec.Struct, frozen=True, kw_only=True):
    """An index, but for its tables, and the file that it is of.

    Attributes:
        device: where the file is.
        inode: of the file, there.
        modified: when the file was written to, in nanoseconds.
        last: checksum of the last bytes that the index covers.
    """

    device: int
    inode: int
    modified: int
    last: int
    index: Index


def path_of_index(path: Path) -> Path:
    """Where the index of an answers file is saved."""
    return path.with_name(f".{path.name}.index")


def _last(file: AnswersFile, size: int) -> int:
    start = max(0, size - _LAST)
    return zlib.crc32(file.line(start, size - start))


def is_worth_saving(file: AnswersFile, index: Index) -> bool:
    """Whether a file has much that no saved index has."""
    return file.status().st_size - index.saved >= WORTH


def _save(file: AnswersFile, index: Index) -> None:
    status = file.status()
    saved = _Saved(
        device=status.st_dev,
        inode=status.st_ino,
        modified=status.st_mtime_ns,
        last=_last(file, index.size),
        index=msgspec.structs.replace(index, saved=index.size, places=(), ids=()),
    )
    places, ids = (
        tables[0] if len(tables) == 1 else _table(_rows(tables, form))
        for tables, form in ((index.places, _PLACE), (index.ids, _ID))
    )
    parts = msgspec.msgpack.encode(saved), places, ids
    first = _FIRST.pack(_MAGIC, _checksum(parts), *map(len, parts[:2]))
    path = path_of_index(file.path)
    with (
        named(path, "write"),
        # A checksum shows one that a power loss, or a second writer, has spoilt.
        appearing_whole(path, temporary=f"{path.name}{UNFINISHED}", sync=False) as target,
    ):
        target.writelines((first, *parts))


def _saved(file: AnswersFile) -> Index:
    """The saved index of a file; an empty one if there is none, or if it is doubtful."""
    try:
        content = path_of_index(file.path).read_bytes()
        magic, checksum, *sizes = _FIRST.unpack_from(content)
    except (OSError, struct.error):
        return Index()
    rest = content[_FIRST.size :]
    if (magic, checksum) != (_MAGIC, zlib.crc32(rest)):
        return Index()
    try:
        saved = msgspec.msgpack.decode(rest[: sizes[0]], type=_Saved)
    except UNREADABLE:
        return Index()
    if not _fits(file, saved):
        return Index()
    start, end = sizes[0], sum(sizes)
    return msgspec.structs.replace(saved.index, places=(rest[start:end],), ids=(rest[end:],))


def _fits(file: AnswersFile, saved: _Saved) -> bool:
    """Whether an index is of the file, to which at most more was appended since."""
    status, size = file.status(), saved.index.size
    return (
        (status.st_dev, status.st_ino) == (saved.device, saved.inode)
        and (
            status.st_size > size or (status.st_size, status.st_mtime_ns) == (size, saved.modified)
        )
        and _last(file, size) == saved.last
    )


def _checksum(parts: Iterable[bytes]) -> int:
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found

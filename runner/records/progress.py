"""What ended: upstream's progress file and the attempts file, lines that are only appended to."""

import io
import json
import os
import re
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Self

import msgspec

from runner.files import (
    UNREADABLE,
    make_folder,
    named,
    read_bytes,
    replace,
    sync_folder,
    write_behind,
)
from runner.model import ATTEMPT_VERSION, Attempt, Command, Result, decode_command

# The byte order mark that some editors put before a file.
_MARK = b"\xef\xbb\xbf"

# What stands around a text: blanks, and the zero bytes that a power loss leaves on some file
# systems.
BLANK = b" \t\r\n\v\f\0"

# What parts two texts that lost the end of line between them. In JSON none of these stands inside a
# text, but the mark, which is why a line is first read as a whole.
_BETWEEN = re.compile(rb"[\0\r]+|\xef\xbb\xbf|(?<=\])(?=\[)|(?<=\})(?=\{)")

_decode_argv = msgspec.json.Decoder(tuple[str, ...]).decode

_decode_attempt = msgspec.json.Decoder(Attempt, dec_hook=decode_command).decode


def read_lines(content: bytes, take: Callable[[int, bytes], bool]) -> list[int]:
    """Read a file of lines, whatever editors, power losses and other programs have made of it.

    Args:
        take: is given a line's number and a text in it, and tells whether it understood that.

    Returns:
        Numbers of the lines that were not understood as a whole; a torn last line is none of them.
    """
    lines = content.split(b"\n")
    damaged = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not take(number, text) and not _read_parts(text, number, take):
            damaged.append(number)
    return [number for number in damaged if number < len(lines)]


def _read_parts(text: bytes, number: int, take: Callable[[int, bytes], bool]) -> bool:
    bare = _bare(text)
    if not bare:
        return b"\0\0" not in text  # else it was a text
    if bare != text and take(number, bare):
        return True
    parts = [part for piece in _BETWEEN.split(bare) if (part := _bare(piece))]
    if len(parts) == 1:
        return False
    taken = [part[:1] in {b"[", b"{"} and take(number, part) for part in parts]
    return all(taken)


def _bare(text: bytes) -> bytes:
    text = text.strip(BLANK)
    while text.startswith(_MARK):
        text = text.removeprefix(_MARK).strip(BLANK)
    return text


def written_by_newer(source: str, lines: Sequence[int]) -> list[str]:
    """A message about lines whose version is a later one, by their numbers; none for none."""
    if not lines:
        return []
    some = ", ".join(map(str, lines[:3])) + (", ..." if lines[3:] else "")
    message = (
        f"{source}: written by a newer evalset: line {some}; what this one understands of it "
        "counts, and it is left as it is"
    )
    return [message]


class LineFile:
    """A file of lines that is only appended to; what `add` returned from survives a power loss.

    A torn last line, left by a crash in the middle of a write, is moved to `{name}.torn`, so that
    every other reader finds whole lines only.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        with named(path, "write"):
            new = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            if new:
                sync_folder(path.parent)
            self._end_last_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it cannot be added to any more."""
        os.close(self._descriptor)

    def add(self, *lines: str) -> None:
        """Append lines, all with one fsync; on an error the file is as it was before."""
        self._append("".join(f"{line}\n" for line in lines).encode())

    def _append(self, data: bytes) -> None:
        with named(self.path, "write"):
            write_behind(self._descriptor, data, sync=True)

    def _end_last_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n":
            return
        start = self._start_of_last_line(size)
        tail = os.pread(self._descriptor, size - start, start)
        if _is_whole(tail):
            os.write(self._descriptor, b"\n")
        else:
            with LineFile(self.path.with_name(f"{self.path.name}.torn")) as torn:
                torn._append(tail + b"\n")
            os.ftruncate(self._descriptor, start)
        os.fsync(self._descriptor)

    def _start_of_last_line(self, size: int) -> int:
        block = 65536
        end = size
        while end > 0:
            begin = max(0, end - block)
            found = os.pread(self._descriptor, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0


def _is_whole(line: bytes) -> bool:
    """Whether a last line without its newline has a complete text in it.

    A line of plain text always counts as complete: what is cut off is then a command that no job
    has, which does no harm.
    """
    whole = []

    def take(_: int, text: bytes) -> bool:
        if text.startswith((b"[", b"{")):
            try:
                msgspec.json.decode(text)
            except UNREADABLE:
                return False
        elif b"\0" in text:
            return False
        whole.append(text)
        return True

    read_lines(line, take)
    return bool(whole)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What a progress file says.

    Attributes:
        commands: in file order, doubled ones once.
        lines: finished commands of old files: plain text, joined by single spaces.
        damaged: one message for people for each line that could not be read.
    """

    commands: tuple[Command, ...] = ()
    lines: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def read_progress(path: Path) -> Finished:
    """Read a progress file; one that does not exist says that nothing is finished.

    A torn last line is skipped silently, because a crash leaves one; any other line that is neither
    a JSON array of strings nor plain text is named by its number. The file stays as it is.
    """
    return parse_progress(read_bytes(path), str(path))


def parse_progress(content: bytes, source: str) -> Finished:
    """Read what a progress file holds; `source` is what messages call it."""
    commands: dict[Command, None] = {}
    lines: dict[str, None] = {}

    def take(_: int, text: bytes) -> bool:
        try:
            commands[Command(_decode_argv(text))] = None
        except UNREADABLE:
            plain = _plain(text)
            if plain is None:
                return False
            lines[plain] = None
        return True

    damaged = [
        f"{source}: line {number} cannot be read and is left as it is; "
        "the eval that it stood for runs again, unless its success is in the attempts file"
        for number in read_lines(content, take)
    ]
    return Finished(commands=tuple(commands), lines=tuple(lines), damaged=tuple(damaged))


def _plain(text: bytes) -> str | None:
    """The line as an old progress file would have it, or None for what was meant to be JSON."""
    if text.startswith((b"[", b"{", b'"')) or b'", "' in text or text.endswith(b'"]'):
        return None  # the rest of a line of JSON, for example
    try:
        line = text.decode()
    except UnicodeDecodeError:
        return None
    return line if line.isprintable() else None


class ProgressFile(LineFile):
    """Upstream's progress file, byte for byte: one JSON argv a line, successes only."""

    def add_commands(self, *commands: Command) -> None:
        """Record finished commands, durable when this returns."""
        self.add(*(json.dumps(command) for command in commands))


def rewrite_progress(path: Path, commands: Sequence[Command]) -> None:
    """Rewrite a whole progress file; a reader sees the old one or the new one."""
    replace(path, "".join(f"{json.dumps(command)}\n" for command in commands).encode())


class _EveryVersion(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    id: str = msgspec.field(name="attempt")
    run: str = ""
    host: str = ""
    command: Command
    eval: str
    result: Result
    ended_at: str = ""


class AttemptsFile(LineFile):
    """The file of every attempt that ended, whatever its outcome."""

    def add_records(self, *records: Attempt) -> None:
        """Append records, durable when this returns."""
        self.add(*(msgspec.json.encode(record).decode() for record in records))


class RecordedAttempts(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempts file says: its records in file order, and a message a damaged line."""

    records: tuple[Attempt, ...] = ()
    damaged: tuple[str, ...] = ()


def read_attempts(path: Path) -> RecordedAttempts:
    """Read an attempts file; as with progress files, reading tolerates and never changes."""
    return parse_attempts(read_bytes(path), str(path))


def parse_attempts(content: bytes, source: str) -> RecordedAttempts:
    """Read what an attempts file holds; `source` is what messages call it."""
    records: list[Attempt] = []
    newer: list[int] = []
    last: dict[str, Attempt] = {}

    def take(number: int, text: bytes) -> bool:
        try:
            record = _decode_attempt(text)
        except UNREADABLE:
            later = _of_later_version(text)
            if later is None:
                return False
            record = later
        if record.version > ATTEMPT_VERSION:
            newer.append(number)
        if last.get(record.id) != record:  # a doubled line is one attempt
            last[record.id] = record
            records.append(record)
        return True

    damaged = [
        f"{source}: line {number} cannot be read and is left as it is"
        for number in read_lines(content, take)
    ]
    damaged += written_by_newer(source, newer)
    return RecordedAttempts(records=tuple(records), damaged=tuple(damaged))


def lines_beside(content: bytes, known: Container[str]) -> list[str]:
    """The lines of an attempts file with an attempt whose id is not known, as they are."""
    return [
        line.decode()
        for line in content.splitlines()
        if (records := parse_attempts(line, "").records) and records[0].id not in known
    ]


def move_attempts(path: Path, target: Path, goes: Callable[[Attempt], bool]) -> int:
    """Move lines of an attempts file to a new file, byte for byte; the run's lock must be held.

    `target` is on the disk before `path` changes, so that a crash loses nothing. What cannot be
    read stays, and so does a line that holds a record that stays.

    Returns:
        How many lines moved; for none, there is no new file.
    """
    stays: list[bytes] = []
    moves: list[bytes] = []
    for line in io.BytesIO(read_bytes(path)):
        records = parse_attempts(line, "").records
        (moves if records and all(map(goes, records)) else stays).append(line)
    if moves:
        replace(target, b"".join(moves), writer="run")
        replace(path, b"".join(stays), writer="run")
    return len(moves)


def _of_later_version(text: bytes) -> Attempt | None:
    """What every version says, of a record with fields that this one does not understand."""
    try:
        found = msgspec.json.decode(text, type=_EveryVersion, dec_hook=decode_command)
    except UNREADABLE:
        return None
    if found.version <= ATTEMPT_VERSION:
        return None
    return Attempt(**msgspec.structs.asdict(found))

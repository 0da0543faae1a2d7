import io
from collections.abc import Callable
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, read_bytes, replace
from runner.model import ATTEMPT_VERSION, Attempt, Command, Result, decode_command
from runner.records.lines import LineFile, read_lines, written_by_newer

_decode = msgspec.json.Decoder(Attempt, dec_hook=decode_command).decode


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
            record = _decode(text)
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

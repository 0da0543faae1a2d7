from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from runner.files import UNREADABLE, named
from runner.model import Fault, Outcome, Result
from runner.records.lines import LineFile, read_lines

VERSION = 1


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One line of an attempts file; the fields are those of `Outcome`, flattened for readers.

    Attributes:
        version: of this format.
        run: id of the run that started the attempt.
        host: name of the host that it ran on.
        command: identity of the job.
    """

    version: int = VERSION
    attempt: str
    run: str
    host: str
    command: tuple[str, ...]
    eval: str
    result: Result
    fault: Fault | None = None
    reason: str = ""
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: str | None = None
    ended_at: str
    duration: float = 0.0
    image: str = ""
    logs: tuple[str, ...] = ()
    console_log: str | None = None
    final_report: dict[str, Any] | None = None
    samples: int = 0
    warnings: tuple[str, ...] = ()


def record_of(outcome: Outcome, *, run: str, host: str) -> AttemptRecord:
    """The line that keeps an outcome."""
    fields = {name: getattr(outcome, name) for name in Outcome.__struct_fields__ if name != "job"}
    job = outcome.job
    return AttemptRecord(run=run, host=host, command=job.command, eval=job.eval, **fields)


class _EveryVersion(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    attempt: str
    run: str = ""
    host: str = ""
    command: tuple[str, ...]
    eval: str
    result: Result
    ended_at: str = ""


class AttemptsFile(LineFile):
    """The file of every attempt that ended, whatever its outcome."""

    def add_records(self, *records: AttemptRecord) -> None:
        """Append records, durable when this returns."""
        self.add(*(msgspec.json.encode(record).decode() for record in records))


class AttemptsRead(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempts file says: its records in file order, and a message a damaged line."""

    records: tuple[AttemptRecord, ...] = ()
    damaged: tuple[str, ...] = ()


def read_attempts(path: Path) -> AttemptsRead:
    """Read an attempts file; as with progress files, reading tolerates and never changes."""
    with named(path, "read"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return AttemptsRead()
    return parse_attempts(content, str(path))


def parse_attempts(content: bytes, source: str) -> AttemptsRead:
    """Read what an attempts file holds; `source` is what messages call it."""
    found = _Found()
    numbers = read_lines(content, found.take)
    damaged = [f"{source}: line {number} cannot be read and is left as it is" for number in numbers]
    if found.newer:
        some = ", ".join(map(str, found.newer[:3])) + (", ..." if found.newer[3:] else "")
        damaged.append(
            f"{source}: written by a newer evalset: line {some}; what this one understands of it "
            "counts, and it is left as it is"
        )
    return AttemptsRead(records=tuple(found.records), damaged=tuple(damaged))


class _Found:
    """Takes the records of a file, each once.

    Attributes:
        records: in file order.
        newer: numbers of the lines that a newer version wrote.
    """

    def __init__(self) -> None:
        self.records: list[AttemptRecord] = []
        self.newer: list[int] = []
        self._decoder = msgspec.json.Decoder(AttemptRecord)
        self._last: dict[str, AttemptRecord] = {}

    def take(self, number: int, text: bytes) -> bool:
        """Take what stands in a line, and tell whether it was understood."""
        try:
            record = self._decoder.decode(text)
        except UNREADABLE:
            later = _of_later_version(text)
            if later is None:
                return False
            record = later
        if record.version > VERSION:
            self.newer.append(number)
        if self._last.get(record.attempt) != record:  # a doubled line is one attempt
            self._last[record.attempt] = record
            self.records.append(record)
        return True


def _of_later_version(text: bytes) -> AttemptRecord | None:
    """What every version says, of a record with fields that this one does not understand."""
    try:
        found = msgspec.json.decode(text, type=_EveryVersion)
    except UNREADABLE:
        return None
    if found.version <= VERSION:
        return None
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return AttemptRecord(**fields)


def newest(records: tuple[AttemptRecord, ...]) -> dict[tuple[str, ...], AttemptRecord]:
    """The last record of each command."""
    return {record.command: record for record in records}


def failures(records: tuple[AttemptRecord, ...]) -> Iterator[AttemptRecord]:
    """Records of attempts that did not succeed."""
    return (record for record in records if record.result is not Result.SUCCESS)

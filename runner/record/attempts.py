from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from runner.job import Fault, Outcome, Result
from runner.record.files import UNREADABLE, named
from runner.record.lines import LineFile

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


class AttemptsFile(LineFile):
    """The file of every attempt that ended, whatever its outcome."""

    def add_records(self, *records: AttemptRecord) -> None:
        """Append records, durable when this returns."""
        self.add(*(msgspec.json.encode(record).decode() for record in records))


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempts file says: its records in file order, and a message a damaged line."""

    records: tuple[AttemptRecord, ...] = ()
    damaged: tuple[str, ...] = ()


def read(path: Path) -> Attempts:
    """Read an attempts file; as with progress files, reading tolerates and never changes."""
    with named(path, "read"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Attempts()
    return parse(content, str(path))


def parse(content: bytes, source: str) -> Attempts:
    """Read what an attempts file holds; `source` is what messages call it."""
    records: list[AttemptRecord] = []
    damaged: list[str] = []
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    decoder = msgspec.json.Decoder(AttemptRecord)
    for number, text in enumerate(map(bytes.strip, lines), start=1):
        if not text:
            continue
        try:
            records.append(decoder.decode(text))
        except UNREADABLE:
            if number < len(lines):
                damaged.append(f"{source}: line {number} cannot be read and is left as it is")
    return Attempts(records=tuple(records), damaged=tuple(damaged))


def newest(records: tuple[AttemptRecord, ...]) -> dict[tuple[str, ...], AttemptRecord]:
    """The last record of each command."""
    return {record.command: record for record in records}


def failures(records: tuple[AttemptRecord, ...]) -> Iterator[AttemptRecord]:
    """Records of attempts that did not succeed."""
    return (record for record in records if record.result is not Result.SUCCESS)

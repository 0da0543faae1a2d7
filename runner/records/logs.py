import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from runner.files import UNREADABLE, named
from runner.records.layout import Layout
from runner.records.progress import read_attempts
from runner.records.state import RunState

# A line longer than this is passed over: no event of oaieval's comes near, and a hostile log must
# not fill the runner's memory.
LONGEST_LINE = 16 * 1024 * 1024

# Bytes that are looked at in the logs of one attempt, and different samples that are counted.
MOST_READ = 8 * 2**30
MOST_SAMPLES = 1_000_000

# Bytes of a report in a record, because every reader of the records reads it; its depth, because
# readers of JSON have a limit; and its values: many small ones take far more memory than text.
LARGEST_REPORT = 64 * 1024
DEEPEST_REPORT = 64
MOST_VALUES = 5000

# Bytes of a line with Python's numbers, and of all such lines of an attempt: what turns them into
# JSON takes long and much memory.
LONGEST_PYTHON = 2**20
MOST_PYTHON = 64 * 2**20

# A string, which is left alone, or what Python writes for a float that JSON does not have.
_NOT_JSON = re.compile(rb'("(?:[^"\\]|\\.)*")|-?(?:NaN|Infinity)')

# Several evals may end together, and each may have left what takes all the memory that it is
# allowed to take.
_one_at_a_time = threading.Lock()


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What oaieval's logs of one attempt say.

    Attributes:
        final_report: the last one found, None when there is none.
        samples: how many different samples have an event.
        withheld: whether the last one is no use in a record.
        warnings: what was not looked at or not taken, one line each.
    """

    final_report: dict[str, Any] | None = None
    samples: int = 0
    withheld: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def reported(self) -> bool:
        """Whether oaieval reported anything."""
        return self.withheld or self.final_report is not None


class _Line(msgspec.Struct):
    sample_id: str | int | None = None
    # Read later, if it is small enough: what it says takes many times its bytes in memory.
    final_report: msgspec.Raw = msgspec.Raw(b"null")


def summarise(paths: Iterable[Path]) -> Summary:
    """Read logs in a stream, keeping one line and a hash of each sample's id in memory.

    Lines that are not oaieval's are passed over: the eval's own code wrote them.
    """
    with _one_at_a_time:
        return _Reading().of(paths)


class _Reading:
    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Line)
        self._samples: set[int] = set()
        self._report: bytes | None = None
        self._left = MOST_READ
        self._python_left = MOST_PYTHON

    def of(self, paths: Iterable[Path]) -> Summary:
        for path in paths:
            with path.open("rb") as file:
                for text in _lines(file, self._takes):
                    self._look_at(text)
        report, why = _fit(self._report)
        warnings = [why] if why else []
        if self._left < 0:
            warnings.append(f"its logs have more than {MOST_READ} bytes; the rest was not read")
        if len(self._samples) == MOST_SAMPLES:
            warnings.append(f"its logs have {MOST_SAMPLES} samples or more; no more were counted")
        return Summary(
            final_report=report,
            samples=len(self._samples),
            withheld=bool(why),
            warnings=tuple(warnings),
        )

    def _takes(self, length: int) -> bool:
        self._left -= length
        return self._left >= 0

    def _look_at(self, text: bytes) -> None:
        if b"NaN" in text or b"Infinity" in text:
            self._python_left -= len(text)
            if len(text) > LONGEST_PYTHON or self._python_left < 0:
                return
            text = plain_json(text)
        try:
            line = self._decoder.decode(text)
        except UNREADABLE:
            return
        if line.sample_id is not None and len(self._samples) < MOST_SAMPLES:
            self._samples.add(hash(line.sample_id))
        report = bytes(line.final_report)
        if report.startswith(b"{") and report[1:].lstrip()[:1] != b"}":  # an empty one says nothing
            self._report = report


def _fit(report: bytes | None) -> tuple[dict[str, Any] | None, str]:
    """A report, and why it is no use in a record; empty where it is."""
    if report is None:
        return None, ""
    why = f"has more than {LARGEST_REPORT} bytes"
    if len(report) <= LARGEST_REPORT:
        with suppress(*UNREADABLE):
            found = msgspec.json.decode(report, type=dict[str, Any])
            if _is_plain(found):
                return found, ""
        why = "is too deep, has too many values or is no JSON"
    return None, f"its final_report {why}; it is in the log alone"


def _is_plain(report: dict[str, Any]) -> bool:
    inner: list[object] = [report]
    values = 0
    for _ in range(DEEPEST_REPORT):
        inner = [each for one in inner for each in _within(one)]
        values += len(inner)
    return not inner and values <= MOST_VALUES


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def plain_json(text: bytes) -> bytes:
    """A line of Python's JSON as JSON: `NaN` and `Infinity`, which only Python writes, are null.

    An eval without a single sample reports an accuracy of NaN.
    """
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _NOT_JSON.sub(lambda found: found[1] or b"null", text)


def _lines(file: IO[bytes], takes: Callable[[int], bool]) -> Iterator[bytes]:
    """The lines of a file that are not too long, as long as any more are taken."""
    while (text := file.readline(LONGEST_LINE)) and takes(len(text)):
        if text.endswith(b"\n") or len(text) < LONGEST_LINE:
            yield text
        else:
            while text and not text.endswith(b"\n"):
                text = file.readline(LONGEST_LINE)
                if not takes(len(text)):
                    return


# A longer line is no event that a person would read, and a hostile one takes many times its bytes.
LONGEST_EVENT = 1024 * 1024


class Event(msgspec.Struct, frozen=True, gc=False):
    """One line of a log."""

    sample_id: str | int | None = None
    type: str = ""
    data: Any = None


_decode = msgspec.json.Decoder(Event).decode


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """A line of a log.

    Attributes:
        event: None if it cannot be read or is too long.
        start: where it begins, in bytes.
        size: in bytes.
    """

    event: Event | None
    start: int
    size: int


def read_lines(path: Path) -> Iterator[LogLine]:
    """Read a log in a stream, one line in memory."""
    offset = 0
    with named(path, "read"), path.open("rb") as file:
        while text := file.readline(LONGEST_EVENT):
            length = len(text)
            if length == LONGEST_EVENT and not text.endswith(b"\n"):
                while text and not text.endswith(b"\n"):
                    text = file.readline(LONGEST_EVENT)
                    length += len(text)
                yield LogLine(None, offset, length)
            elif text != b"\n":
                yield LogLine(event_of(text), offset, length)
            offset += length


def event_of(text: bytes) -> Event | None:
    """Read one line; None if it is no event."""
    try:
        return _decode(text)
    except UNREADABLE:
        pass
    try:  # looking for what only Python writes takes as long as reading does
        return _decode(plain_json(text))
    except UNREADABLE:
        return None


# More than this many bytes at the end are not looked at.
LONGEST_TAIL = 16384


def last_lines(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of what an eval printed, as its code wrote them: not safe for a terminal."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LONGEST_TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    # What a progress bar wrote over is gone for a person, too.
    found = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return tuple([line for line in found if line][-lines:])


def has_text(path: Path) -> bool:
    """Whether a console log is there and has anything in it."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def recorded_tail(layout: Layout, name: str, lines: int) -> tuple[str, ...]:
    """The last lines of a console log that a record names, which may come from another host."""
    paths = layout.log_paths([name])
    return last_lines(paths[0], lines) if paths else ()


def all_logs(layout: Layout, state: RunState) -> list[str]:
    """Every log of a model and eval set that is there: those on record, and upstream's own."""
    names = dict.fromkeys(state.logs)
    for path in (layout.root / name for name in layout.state_files()):
        if ".attempts.jsonl" in path.name and path != layout.attempts:
            for record in read_attempts(path).records:
                names |= dict.fromkeys(record.all_logs)
    evals = {command.eval for command in state.finished.commands if command.is_whole}
    for path in layout.evallogs.rglob("*.jsonl"):
        # openai/evals calls it {run id}_{model}_{eval}.jsonl, and the model may have a slash.
        relative = str(path.relative_to(layout.evallogs))
        middle = relative.removesuffix(".jsonl").partition(f"_{layout.model}_")
        if middle[2] in evals and "_" not in middle[0]:
            names[f"evallogs/{relative}"] = None
    return list(filter(layout.is_log, names))

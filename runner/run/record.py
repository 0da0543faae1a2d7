from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from runner.model import Outcome, Result
from runner.records.attempts import AttemptRecord, AttemptsFile, read_attempts, record_of
from runner.records.layout import Layout
from runner.records.progress import ProgressFile, read_progress


class _Known(msgspec.Struct, frozen=True):
    """What the rest of a run has to know of an attempt on record; reports are large."""

    command: tuple[str, ...]
    success: bool


def _known(record: AttemptRecord) -> _Known:
    return _Known(record.command, record.result is Result.SUCCESS)


class Recorder:
    """Writes what happened; the only writer of these files while the run's lock is held.

    Attributes:
        changed: whether `complete` had to add anything.
    """

    def __init__(self, layout: Layout, *, run: str, host: str) -> None:
        self._run = run
        self._host = host
        self._progress = ProgressFile(layout.progress)
        self._attempts = AttemptsFile(layout.attempts)
        records = read_attempts(layout.attempts).records
        self._known = {record.attempt: _known(record) for record in records}
        self._finished = set(read_progress(layout.progress).commands)
        self.changed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.close()
        self._attempts.close()

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Put outcomes on disk, all with one fsync a file; they are durable when this returns.

        Successes are in the progress file first: whatever comes in between, none runs again.
        """
        records = [record_of(outcome, run=self._run, host=self._host) for outcome in outcomes]
        self._finish(map(_known, records))
        self._attempts.add_records(*records)
        self._known.update({record.attempt: _known(record) for record in records})

    def complete(self, attempt: str) -> bool:
        """Tell whether an attempt is on record, and see to it that all of it is.

        A line may have been taken out of the progress file, or an older version was killed between
        the two files.
        """
        if attempt not in self._known:
            return False
        self.changed |= self._finish([self._known[attempt]])
        return True

    def _finish(self, known: Iterable[_Known]) -> bool:
        finished = dict.fromkeys(
            each.command for each in known if each.success and each.command not in self._finished
        )
        if finished:
            self._progress.add_commands(*finished)
            self._finished.update(finished)
        return bool(finished)

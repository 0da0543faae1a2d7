from collections.abc import Sequence
from types import TracebackType
from typing import Self

from runner.job import Outcome, Result
from runner.record import attempts, progress
from runner.record.attempts import AttemptRecord, AttemptsFile, record_of
from runner.record.layout import Layout
from runner.record.progress import ProgressFile


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
        records = attempts.read(layout.attempts).records
        self._known = {record.attempt: record for record in records}
        self._finished = set(progress.read(layout.progress).commands)
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
        """Put outcomes on disk, all with one fsync a file; they are durable when this returns."""
        records = [record_of(outcome, run=self._run, host=self._host) for outcome in outcomes]
        self._attempts.add_records(*records)
        self._known.update({record.attempt: record for record in records})
        self._finish(records)

    def complete(self, attempt: str) -> bool:
        """Tell whether an attempt is on record, and see to it that all of it is.

        A run that was killed between its two files has recorded a success in the first only.
        """
        if attempt not in self._known:
            return False
        self.changed |= self._finish([self._known[attempt]])
        return True

    def _finish(self, records: Sequence[AttemptRecord]) -> bool:
        finished = dict.fromkeys(
            record.command
            for record in records
            if record.result is Result.SUCCESS and record.command not in self._finished
        )
        if finished:
            self._progress.add_commands(*finished)
            self._finished.update(finished)
        return bool(finished)

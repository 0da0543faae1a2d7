from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from runner.model import Attempt, Command, Result
from runner.records.attempts import AttemptsFile, read_attempts
from runner.records.layout import Layout
from runner.records.progress import ProgressFile, read_progress


class _Known(msgspec.Struct, frozen=True):
    """What the rest of a run has to know of an attempt on record; reports are large."""

    command: Command
    success: bool


def _known(record: Attempt) -> _Known:
    return _Known(record.command, record.result is Result.SUCCESS)


class Recorder:
    """Writes what happened; the only writer of these files while the run's lock is held.

    Attributes:
        run: id of the run.
        changed: whether `complete` had to add anything.
    """

    def __init__(self, layout: Layout, *, run: str) -> None:
        self.run = run
        self._progress = ProgressFile(layout.progress)
        self._attempts = AttemptsFile(layout.attempts)
        records = read_attempts(layout.attempts).records
        self._known = {record.id: _known(record) for record in records}
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

    def record(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts on disk, all with one fsync a file; they are durable when this returns.

        Successes are in the progress file first: whatever comes in between, none runs again.
        """
        self._finish(map(_known, attempts))
        self._attempts.add_records(*attempts)
        self._known.update({attempt.id: _known(attempt) for attempt in attempts})

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

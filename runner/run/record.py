from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from runner.model import Attempt, Command, Result
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile
from runner.records.state import RunState, StateReader


class Recorder(AbstractContextManager["Recorder"]):
    """Writes what happened; it alone writes these files while the run's lock is held.

    Args:
        reader: that has read the files before.

    Attributes:
        run: id of the run.
        changed: whether `complete` had to add anything.
    """

    def __init__(self, layout: Layout, *, run: str, reader: StateReader | None = None) -> None:
        self.run = run
        self._progress = ProgressFile(layout.progress)
        self._attempts = AttemptsFile(layout.attempts)
        state = RunState.from_directory(layout, reader)  # only now nobody else changes them
        # What each attempt on record finished, if anything; whole records would take much memory.
        self._finished_by = {record.id: _finished_by(record) for record in state.attempts}
        self._finished = set(state.finished.commands)
        self.changed = False

    def __exit__(self, *_: object) -> None:
        self._progress.close()
        self._attempts.close()

    def record(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts on disk, all with one fsync a file; they are durable when this returns.

        Successes go into the progress file first, so that none runs again after a crash in between.
        """
        finished = {attempt.id: _finished_by(attempt) for attempt in attempts}
        self._finish(finished.values())
        self._attempts.add_records(*attempts)
        self._finished_by.update(finished)

    def complete(self, attempt: str) -> bool:
        """Whether an attempt is on record; a line that its record lacks is added.

        Somebody may have removed a line from the progress file, or an older version may have been
        killed between writing the two files.
        """
        if attempt not in self._finished_by:
            return False
        self.changed |= self._finish([self._finished_by[attempt]])
        return True

    def has(self, attempt: str) -> bool:
        """Whether an attempt is on record."""
        return attempt in self._finished_by

    def _finish(self, commands: Iterable[Command | None]) -> bool:
        finished = dict.fromkeys(
            each for each in commands if each is not None and each not in self._finished
        )
        if finished:
            self._progress.add_commands(*finished)
            self._finished.update(finished)
        return bool(finished)


def _finished_by(attempt: Attempt) -> Command | None:
    return attempt.command if attempt.result is Result.SUCCESS else None

from typing import Protocol

from runner.job import Job, Outcome


class Display(Protocol):
    """What shows a run to people while it goes on."""

    # Whether `progressed` is worth calling.
    wants_samples: bool

    @property
    def tail_lines(self) -> int:
        """How many lines of a failed eval's output `ended` is to be given."""

    def begin(self, *, total: int, done: int, todo: int) -> None:
        """The plan is made: `done` of `total` are finished, `todo` will be run."""

    def note(self, text: str) -> None:
        """Say one line that is no error."""

    def warn(self, text: str) -> None:
        """Say one line that deserves attention."""

    def started(self, job: Job) -> None:
        """A container runs."""

    def progressed(self, job: Job, samples: int, of: int) -> None:
        """A running eval has done so many samples."""

    def ended(self, outcome: Outcome, *, again: bool, tail: tuple[str, ...]) -> None:
        """An attempt ended and is on record; `tail` is the end of its console log."""

    def end(self) -> None:
        """Nothing runs any more."""

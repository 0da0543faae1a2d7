import re
from bisect import insort
from collections.abc import Callable, Iterable, Sequence

from runner.model import Command


class UsualTimes:
    """How long evals usually take to succeed: medians of what is on record, in seconds."""

    def __init__(self, past: Iterable[tuple[Command, float]] = ()) -> None:
        self._own: dict[Command, list[float]] = {}
        self._alike: dict[tuple[str, ...], list[float]] = {}
        for command, seconds in past:
            self.add(command, seconds)

    def add(self, command: Command, seconds: float) -> None:
        """Add how long a success took."""
        insort(self._own.setdefault(command, []), seconds)
        insort(self._alike.setdefault(command.without_eval, []), seconds)

    def of(self, command: Command) -> float | None:
        """The usual time of a command; None if nothing is on record.

        Its own successes count. If it has none, those of commands count that differ only in the
        eval: other arguments, such as `--max_samples`, take a different time.
        """
        own = self._own.get(command)
        return _median(own or self._alike.get(command.without_eval) or ())


class TimeBudget:
    """The time that a run has, and which evals still fit into it.

    Args:
        seconds: from `began` until its end, by the clock.
        clock: gives seconds that never decrease.
        past: commands and seconds of successes on record.
    """

    def __init__(
        self,
        *,
        seconds: float,
        began: float,
        clock: Callable[[], float],
        past: Iterable[tuple[Command, float]] = (),
    ) -> None:
        self._end = began + seconds
        self._clock = clock
        self._usual = UsualTimes(past)

    @property
    def remaining(self) -> float:
        """Seconds until the end; negative after it."""
        return self._end - self._clock()

    def fits(self, command: Command) -> bool:
        """Whether an eval may be started now; one whose usual time is unknown may."""
        remaining = self.remaining
        usual = self._usual.of(command)
        return remaining > 0 and (usual is None or usual <= remaining)

    def spent(self, command: Command, seconds: float) -> None:
        """Add how long a success of this run took."""
        self._usual.add(command, seconds)


def _median(ordered: Sequence[float]) -> float | None:
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# What differs between two failures with the same cause: ids and addresses. In printed text numbers
# differ as well; in a reason they distinguish causes.
_ID = re.compile(r"0x[0-9a-f]+|\b(?=[a-z]*\d)[0-9a-z]{8,}(?:-[0-9a-z]{4,})*\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")

# Seconds; what takes longer to fail does not have a cause that affects all evals at once.
LONGEST = 300.0


class Streak:
    """Failures in a row that are alike: a bad key, no network, a missing command.

    Args:
        most: how many mean that they have a common cause; 0 for no number.

    Attributes:
        count: how many have been alike so far.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reason = ""
        self._printed: list[str] = []
        self.count = 0

    def success(self) -> None:
        """An eval has succeeded, so that there is no common cause."""
        self.count = 0

    def failure(self, reason: str, printed: Sequence[str], *, seconds: float = 0) -> bool:
        """An eval has failed for good; whether too many in a row have failed alike.

        Two are alike if the last line of one is among the last lines of the other, because standard
        output and error come in any order.

        Args:
            printed: the last lines of what it printed.
            seconds: that it took.
        """
        if seconds > LONGEST:
            self.count = 0
            return False
        reason = _ID.sub("#", reason)
        lines = [_NUMBER.sub("#", _ID.sub("#", line.strip())) for line in printed]
        ends = {*lines[-1:], *self._printed[-1:]}
        alike = reason == self._reason and (
            lines == self._printed or bool(ends & set(lines) & set(self._printed))
        )
        self.count = self.count + 1 if alike and self.count else 1
        self._reason, self._printed = reason, lines
        return self.count == self._most

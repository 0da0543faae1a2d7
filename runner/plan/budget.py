from bisect import insort
from collections.abc import Callable, Iterable, Sequence

Command = tuple[str, ...]


class UsualTimes:
    """How long evals take that end well: medians of what is on record, in seconds."""

    def __init__(self, past: Iterable[tuple[Command, float]] = ()) -> None:
        self._own: dict[Command, list[float]] = {}
        self._alike: dict[Command, list[float]] = {}
        for command, seconds in past:
            self.add(command, seconds)

    def add(self, command: Command, seconds: float) -> None:
        """Take in how long a success took."""
        insort(self._own.setdefault(command, []), seconds)
        insort(self._alike.setdefault(_without_eval(command), []), seconds)

    def of(self, command: Command) -> float | None:
        """The usual time of a command; None where nothing tells it.

        Its own successes count. Where it has none, those of commands count that differ in the
        eval alone, for other arguments, as `--max_samples`, make another time.
        """
        own = self._own.get(command)
        return _median(own or self._alike.get(_without_eval(command)) or ())


class Budget:
    """The time that a run has, and which evals still fit into it.

    Args:
        seconds: from `began` until its end.
        began: when the run did, by the clock.
        clock: gives seconds that only grow.
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
    def left(self) -> float:
        """Seconds until the end; below zero after it."""
        return self._end - self._clock()

    def fits(self, command: Command) -> bool:
        """Tell whether an eval may be started now.

        One whose usual time nothing tells may be as long as anything is left.
        """
        left = self.left
        usual = self._usual.of(command)
        return left > 0 and (usual is None or usual <= left)

    def spent(self, command: Command, seconds: float) -> None:
        """Take in how long a success of this run took."""
        self._usual.add(command, seconds)


def _without_eval(command: Command) -> Command:
    return (*command[:2], *command[3:])


def _median(ordered: Sequence[float]) -> float | None:
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

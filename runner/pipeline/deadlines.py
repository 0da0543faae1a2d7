import time
from collections.abc import Callable

# Seconds; Python waits for no more than some centuries, and a budget may be longer.
LONGEST_WAIT = 86400.0


class Deadlines:
    """What is to be done at which moment, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self._waiting.append((time.monotonic() + seconds, act))
        self._waiting.sort(key=lambda deadline: deadline[0])

    def clear(self) -> None:
        """Do none of it."""
        self._waiting.clear()

    @property
    def pause(self) -> float | None:
        """Seconds until the first; None if there is none."""
        if not self._waiting:
            return None
        return min(max(0.0, self._waiting[0][0] - time.monotonic()), LONGEST_WAIT)

    def act(self) -> None:
        """Do what is due."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._waiting.pop(0)[1]()

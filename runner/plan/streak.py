import re
from collections.abc import Sequence

# What differs between two failures of the same cause: numbers, ids, addresses, times.
_PASSING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b|\d+", re.IGNORECASE)


class Streak:
    """Failures in a row that are alike: a bad key, no network, a missing command.

    Args:
        most: how many are taken for a cause that they have in common; 0 is never.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sign: tuple[str, str] | None = None
        self._count = 0

    def success(self) -> None:
        """An eval has succeeded: whatever the others had, it is not common."""
        self._sign = None
        self._count = 0

    def failure(self, reason: str, printed: Sequence[str]) -> bool:
        """An eval has failed for good; tell whether as many as are too many did so alike.

        Args:
            reason: why, on one line.
            printed: the last lines of what it printed.
        """
        sign = (_common(reason), _common(printed[-1] if printed else ""))
        self._count = self._count + 1 if sign == self._sign else 1
        self._sign = sign
        return self._count == self._most

    @property
    def count(self) -> int:
        """How many were alike, up to now."""
        return self._count


def _common(line: str) -> str:
    return _PASSING.sub("#", line.strip())

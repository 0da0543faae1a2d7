import re
from collections.abc import Sequence

# What differs between two failures of the same cause: ids and addresses; in what was printed also
# numbers, which in a reason tell causes apart.
_ID = re.compile(r"0x[0-9a-f]+|\b(?=[a-z]*\d)[0-9a-z]{8,}(?:-[0-9a-z]{4,})*\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")

# Seconds; what takes longer to fail has no cause that meets every eval at once.
LONGEST = 300.0


class Streak:
    """Failures in a row that are alike: a bad key, no network, a missing command.

    Args:
        most: how many are taken for a cause that they have in common; 0 is never.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reason = ""
        self._printed: list[str] = []
        self._count = 0

    def success(self) -> None:
        """An eval has succeeded: whatever the others had, it is not common."""
        self._count = 0

    def failure(self, reason: str, printed: Sequence[str], *, seconds: float = 0) -> bool:
        """An eval has failed for good; tell whether as many as are too many did so alike.

        Two are alike if the last line of one is among the last lines of the other, for standard
        output and error come in any order.

        Args:
            reason: why, on one line.
            printed: the last lines of what it printed.
            seconds: that it took.
        """
        if seconds > LONGEST:
            self._count = 0
            return False
        reason = _ID.sub("#", reason)
        lines = [_NUMBER.sub("#", _ID.sub("#", line.strip())) for line in printed]
        ends = {*lines[-1:], *self._printed[-1:]}
        alike = reason == self._reason and (
            lines == self._printed or bool(ends & set(lines) & set(self._printed))
        )
        self._count = self._count + 1 if alike and self._count else 1
        self._reason, self._printed = reason, lines
        return self._count == self._most

    @property
    def count(self) -> int:
        """How many were alike, up to now."""
        return self._count

"""Which hosts are away, and when people are told of it."""

from collections.abc import Callable, Collection, Sequence

from runner.report.display import HostsAway, HostsBack

# Seconds until people are told that a host is away; most links that break are back before.
TOLD_AFTER = 1.0


class Absences:
    """The hosts that are away; those that go, or come back, together are told of in one line.

    All times are by the same clock, in seconds.

    Args:
        wait: for which a host may be away before its evals run elsewhere.
    """

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._gone: dict[str, tuple[float, str]] = {}  # not told yet
        self._told: set[str] = set()
        self._back: set[str] = set()  # not told yet

    @property
    def told(self) -> Collection[str]:
        """Hosts that people know to be away."""
        return self._told

    def leave(self, host: str, why: str, *, now: float) -> None:
        """A host is away, or still is."""
        self._back.discard(host)
        if host not in self._told:
            self._gone.setdefault(host, (now, why))

    def come(self, host: str) -> None:
        """A host is there."""
        self._gone.pop(host, None)
        if host in self._told:
            self._back.add(host)

    def forget(self, host: str) -> None:
        """A host is not used any more, and people know."""
        self._gone.pop(host, None)
        self._told.discard(host)
        self._back.discard(host)

    def deadline(self) -> float | None:
        """When `news` has something to tell; None for never."""
        if self._back:
            return 0.0
        gone = [since for since, _ in self._gone.values()]
        return min(gone) + TOLD_AFTER if gone else None

    def news(
        self, evals: Callable[[str], int], *, hosts: int, now: float
    ) -> Sequence[HostsAway | HostsBack]:
        """What is to be told now, once.

        Args:
            evals: how many run on a host.
            hosts: how many the run has.
        """
        found: list[HostsAway | HostsBack] = []
        if self._back:
            found.append(HostsBack(hosts=tuple(sorted(self._back))))
            self._told -= self._back
            self._back.clear()
        if self._gone and min(since for since, _ in self._gone.values()) + TOLD_AFTER <= now:
            self._told |= self._gone.keys()
            first, why = next(iter(self._gone.values()))
            found.append(
                HostsAway(
                    hosts=tuple(sorted(self._gone)),
                    why=why,
                    evals=sum(map(evals, self._gone)),
                    wait=self._wait,
                    until=first + self._wait,
                    all_away=len(self._told) == hosts,
                )
            )
            self._gone.clear()
        return found

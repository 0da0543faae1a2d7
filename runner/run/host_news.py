import time
from collections.abc import Callable, Collection, Sequence
from queue import SimpleQueue

from runner.engine.ending import now as moment
from runner.errors import EnvironmentFault, Superseded
from runner.hosts.ledger import Absence, Ledger
from runner.report.display import HostsAway, HostsBack
from runner.run.host_results import HostFacts
from runner.run.schedule import Event, Told

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
        self, evals: Callable[[str], int], *, hosts: int, stopping: bool, now: float
    ) -> Sequence[HostsAway | HostsBack]:
        """What is to be told now, once.

        Args:
            evals: how many run on a host.
            hosts: how many the run has.
            stopping: whether nothing starts any more.
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
                    stopping=stopping,
                )
            )
            self._gone.clear()
        return found


class HostNews:
    """What people are told of hosts: each once when it begins, and once when it ends.

    Args:
        events: for the reader of a run.
        ledger: which is told, too, for others to read.
        facts: of the run.
        evals: how many run on a host.
        stopping: whether nothing starts any more.

    Attributes:
        given_up: why hosts cannot be used, by name.
    """

    def __init__(
        self,
        events: SimpleQueue[Event],
        ledger: Ledger,
        facts: HostFacts,
        evals: Callable[[str], int],
        stopping: Callable[[], bool],
    ) -> None:
        self._stopping = stopping
        self._events = events
        self._ledger = ledger
        self._evals = evals
        self._hosts = facts.setups
        self._absences = Absences(facts.wait)
        self._wait = facts.wait
        self._least_free = facts.least_free
        self._short: set[str] = set()
        self.given_up: dict[str, str] = {}

    def away(self, host: str, why: str) -> None:
        """A host is away, or still is."""
        if host in self._hosts and host not in self.given_up:
            self._absences.leave(host, why, now=time.monotonic())

    def back(self, host: str) -> None:
        """A host is there, or still is."""
        self._absences.come(host)

    def tick(self) -> float | None:
        """Tell what is due of absences; return seconds until there is more, None for never."""
        now = time.monotonic()
        due = self._absences.deadline()
        if due is not None and due <= now:
            hosts, stopping = len(self._hosts), self._stopping()
            for news in self._absences.news(self._evals, hosts=hosts, stopping=stopping, now=now):
                self._events.put(news)
                since = moment() if isinstance(news, HostsAway) else None
                self._ledger.tell(Absence(host=host, away_since=since) for host in news.hosts)
            due = self._absences.deadline()
        return None if due is None else max(0.0, due - now)

    def disk(self, host: str, free: int) -> bool | None:
        """A host has so many bytes free; return whether that is too little, None if as before."""
        short = free < self._least_free
        if short == (host in self._short):
            return None
        (self._short.add if short else self._short.discard)(host)
        if short:
            said = f"only {free / 2**20:.0f} MiB are free on its disk, so no new eval starts there"
        else:
            said = "there is room on its disk again"
        self.said(host, said)
        return short

    def give_up(self, host: str, why: str) -> None:
        """A host cannot be used any more."""
        if host not in self.given_up:
            self.given_up[host] = why
            self._absences.forget(host)
            self.said(host, f"cannot be used: {why}")

    def said(self, host: str, text: str) -> None:
        """A host says something to people."""
        self._events.put(Told(f"{host}: {text}"))

    def why_lost(self, host: str) -> str:
        """Why an attempt on a host is lost."""
        if host in self.given_up:
            return f"its host {host} cannot be used: {self.given_up[host]}"
        if host not in self._hosts:
            return f"it was started on {host}, which this run does not use"
        return f"its host {host} was away for more than {self._wait:g} s (--engine-wait)"

    def all_away(self) -> EnvironmentFault:
        """Why a run ends that has no host any more."""
        if len(self.given_up) < len(self._hosts):
            return EnvironmentFault(
                f"no host has been there for more than {self._wait:g} s (--engine-wait)",
                "the next run takes over what runs there",
            )
        return EnvironmentFault(f"no host can be used: {next(iter(self.given_up.values()))}")

    def no_room(self) -> EnvironmentFault | None:
        """Why nothing can start, if no host that can be used has room on its disk."""
        if self._hosts.keys() - self.given_up.keys() - self._short:
            return None
        least = f"{self._least_free / 2**20:.0f} MiB (--min-free-disk)"
        return EnvironmentFault(
            f"every host has less than {least} free on its disk", "free some there, and run again"
        )

    def superseded(self, host: str) -> Superseded:
        """Why a run ends that a newer one has taken the place of."""
        return Superseded(
            f"a newer run, from a copy of this progress directory, has taken {host} over",
            "let that one end, or end it and run this again",
        )

from queue import SimpleQueue

from runner.errors import EnvironmentFault, Superseded
from runner.run.schedule import Event, Told


class HostNews:
    """What people are told of hosts besides their absences, each once.

    Args:
        events: for the reader of a run.
        wait: seconds for which a host may be away.
        least_free: bytes that have to be free on a host's disk.

    Attributes:
        given_up: why hosts cannot be used, by name.
    """

    def __init__(self, events: SimpleQueue[Event], *, wait: float, least_free: int) -> None:
        self._events = events
        self._wait = wait
        self._least_free = least_free
        self._short: set[str] = set()
        self.given_up: dict[str, str] = {}

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
        self._tell(host, said)
        return short

    def give_up(self, host: str, why: str) -> None:
        """A host cannot be used any more."""
        if host not in self.given_up:
            self.given_up[host] = why
            self._tell(host, f"cannot be used: {why}")

    def said(self, host: str, text: str) -> None:
        """A host says something to people."""
        self._tell(host, text)

    def why_lost(self, host: str) -> str:
        """Why an attempt on a host is lost."""
        if host in self.given_up:
            return f"its host {host} cannot be used: {self.given_up[host]}"
        return f"its host {host} was away for more than {self._wait:g} s (--engine-wait)"

    def all_away(self, hosts: int) -> EnvironmentFault:
        """Why a run ends that has none of so many hosts any more."""
        if len(self.given_up) < hosts:
            return EnvironmentFault(
                f"no host has been there for more than {self._wait:g} s (--engine-wait)",
                "what runs there is taken in by the next run",
            )
        return EnvironmentFault(f"no host can be used: {next(iter(self.given_up.values()))}")

    def superseded(self, host: str) -> Superseded:
        """Why a run ends that a newer one has taken the place of."""
        return Superseded(
            f"a newer run, from a copy of this progress directory, has taken {host} over",
            "let that one end, or end it and run this again",
        )

    def _tell(self, host: str, text: str) -> None:
        self._events.put(Told(f"{host}: {text}"))

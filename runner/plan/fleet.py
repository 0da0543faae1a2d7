import enum
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

import msgspec

from runner.plan.actions import Outcome


class Phase(enum.Enum):
    """Where an attempt stands that is not on record."""

    ASKED = enum.auto()  # the host was told to start it
    RUNNING = enum.auto()
    HELD = enum.auto()  # it has ended, and its outcome is still on the host
    PENDING = enum.auto()  # its outcome is here, while that of a rival is being recorded
    RECORDING = enum.auto()
    LOSING = enum.auto()  # it is being recorded as lost


ALIVE = {Phase.ASKED, Phase.RUNNING}
ON_HOST = {Phase.ASKED, Phase.RUNNING, Phase.HELD}


class PlacedHost(msgspec.Struct, eq=False):
    """A host, as far as is known.

    Attributes:
        since: when it went away, if it is not `up`.
        lost: whether it has been away too long, or cannot be used.
        short: whether it is short of disk.
        attempts: those on it that are not on record, by id.
    """

    name: str
    slots: int
    taken: int = 0
    up: bool = False
    since: float = 0.0
    lost: bool = False
    removed: bool = False
    short: bool = False
    attempts: dict[str, "Placed"] = {}


class PlacedJob(msgspec.Struct, eq=False):
    """A job, and its attempts that are not on record.

    Attributes:
        wanted: whether this run is to do it.
        over: whether no attempt of it counts any more.
        failures: attempts that used up a retry.
        avoid: the host where it failed last.
    """

    key: str
    wanted: bool = True
    over: bool = False
    failures: int = 0
    avoid: str = ""
    attempts: list["Placed"] = []


class Placed(msgspec.Struct, eq=False):
    """An attempt that is not on record.

    Attributes:
        earlier: whether an earlier run started it.
        slot: whether it takes a slot.
        again: what was last said of whether its job goes on.
    """

    id: str
    host: PlacedHost
    job: PlacedJob
    phase: Phase
    earlier: bool = False
    slot: bool = False
    again: bool = False
    outcome: Outcome | None = None

    @property
    def rivals(self) -> list["Placed"]:
        """Others of the same job that may still bring it to success."""
        found = [each for each in self.job.attempts if each.phase is not Phase.LOSING]
        return [each for each in found if each is not self]

    @property
    def age(self) -> tuple[bool, str]:
        """Is smaller for an attempt that began earlier, because ids begin with the time."""
        return (not self.earlier, self.id)


class Fleet:
    """The hosts of a run and what is on them.

    Args:
        slots: how many attempts may run on each at once.
        host_wait: seconds for which a host may be away.

    Attributes:
        attempts: those that are not on record, by id.
        taken: slots that are in use, on all hosts.
    """

    def __init__(self, slots: Mapping[str, int], host_wait: float) -> None:
        self.attempts: dict[str, Placed] = {}
        self.taken = 0
        self._hosts = {name: PlacedHost(name, number) for name, number in slots.items()}
        self._host_wait = host_wait
        self._away: list[tuple[float, str]] = []  # a heap of hosts and since when
        self._with_room: dict[str, None] = {}  # hosts, in turn

    def __iter__(self) -> Iterator[PlacedHost]:
        return iter(self._hosts.values())

    def get(self, name: str) -> PlacedHost | None:
        """A host that this run has and can use."""
        host = self._hosts.get(name)
        return None if host is None or host.removed else host

    def unknown(self, name: str) -> PlacedHost:
        """A host of an earlier run; one that this run does not have cannot be used."""
        return self._hosts.setdefault(name, PlacedHost(name, 0, removed=True))

    def leave(self, host: PlacedHost, now: float) -> None:
        """A host is away from now on."""
        host.up, host.since = False, now
        heappush(self._away, (now, host.name))
        self.look_for_room(host)

    def next_lost(self) -> float | None:
        """When the next host has been away too long; None if all are there."""
        while self._away:
            since, name = self._away[0]
            host = self._hosts[name]
            if not (host.up or host.lost) and host.since == since:
                return since + self._host_wait
            heappop(self._away)
        return None

    def gone_too_long(self, now: float) -> list[PlacedHost]:
        """Hosts that have been away too long since the last call."""
        gone = []
        while (time := self.next_lost()) is not None and time <= now:
            gone.append(self._hosts[heappop(self._away)[1]])
        return gone

    def look_for_room(self, host: PlacedHost) -> None:
        """Take in that something changed that decides whether a host has a free slot."""
        if host.up and not host.short and host.taken < host.slots:
            self._with_room.setdefault(host.name)
        else:
            self._with_room.pop(host.name, None)

    @property
    def has_room(self) -> bool:
        """Whether a host has a free slot."""
        return bool(self._with_room)

    def next_room(self, avoid: str) -> PlacedHost:
        """The host whose turn it is to get an attempt; not `avoid` if there is another."""
        name = next((name for name in self._with_room if name != avoid), avoid)
        del self._with_room[name]  # what is added to it comes last again
        return self._hosts[name]

    def add(self, placed: Placed) -> None:
        """An attempt is on a host."""
        self.attempts[placed.id] = placed.host.attempts[placed.id] = placed
        placed.job.attempts.append(placed)
        placed.slot = placed.phase is not Phase.HELD
        self.taken += placed.slot
        placed.host.taken += placed.slot
        self.look_for_room(placed.host)

    def free(self, placed: Placed) -> None:
        """An attempt takes no slot any more."""
        self.taken -= placed.slot
        placed.host.taken -= placed.slot
        placed.slot = False
        self.look_for_room(placed.host)

    def drop(self, placed: Placed) -> None:
        """An attempt needs no more attention."""
        self.free(placed)
        del self.attempts[placed.id], placed.host.attempts[placed.id]
        placed.job.attempts.remove(placed)

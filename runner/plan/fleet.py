"""What placement knows of hosts, jobs and attempts, and the jobs that wait."""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush

import msgspec

from runner.model import Result


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
        again: whether its job continues in another attempt, as was last said.
        asked_again: whether its host was told to start it again, because it had forgotten it.
    """

    id: str
    host: PlacedHost
    job: PlacedJob
    phase: Phase
    earlier: bool = False
    slot: bool = False
    again: bool = False
    asked_again: bool = False
    result: Result | None = None

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
        host_wait: seconds for which a host may be away before its attempts are lost.

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


class JobQueue:
    """Jobs that wait to be started, always the first of the plan first, and those due for a retry.

    Args:
        jobs: keys, in the order of the plan; all of them wait.
        fits: whether a job may start now, because enough time remains for it.
    """

    def __init__(self, jobs: Sequence[str], fits: Callable[[str], bool] = lambda _: True) -> None:
        self._keys = list(jobs)
        self._index = {key: index for index, key in enumerate(jobs)}
        self._fits = fits
        # Heaps; what has left the set or the dictionary that belongs to one is skipped in it.
        self._heap = list(range(len(jobs)))
        self._waiting = set(self._heap)
        self._due: dict[int, float] = {}
        self._times: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._due)

    def add(self, key: str) -> None:
        """A job waits."""
        index = self._index[key]
        self._due.pop(index, None)
        if index not in self._waiting:
            self._waiting.add(index)
            heappush(self._heap, index)

    def rest(self, key: str, until: float) -> None:
        """A job waits from a later time on."""
        index = self._index[key]
        self._due[index] = until
        heappush(self._times, (until, index))

    def remove(self, key: str) -> None:
        """A job waits no more."""
        self._waiting.discard(self._index[key])
        self._due.pop(self._index[key], None)

    def clear(self) -> None:
        """No job waits any more."""
        for each in (self._heap, self._waiting, self._due, self._times):
            each.clear()

    def next_due(self) -> float | None:
        """When the next retry is due; None if there is none."""
        while self._times:
            until, index = self._times[0]
            if self._due.get(index) == until:
                return until
            heappop(self._times)
        return None

    def wake(self, now: float) -> None:
        """Let those wait that are due."""
        while (until := self.next_due()) is not None and until <= now:
            _, index = heappop(self._times)
            del self._due[index]
            self.add(self._keys[index])

    def take(self) -> str | None:
        """The first job that may start, which waits no more; None if there is none."""
        passed_over = []
        found = None
        while self._heap and found is None:
            index = heappop(self._heap)
            if index not in self._waiting:
                continue
            if self._fits(self._keys[index]):
                self._waiting.discard(index)
                found = self._keys[index]
            else:
                passed_over.append(index)
        self._heap += passed_over
        if passed_over:
            heapify(self._heap)
        return found

    def leave_out(self) -> int:
        """Forget the jobs that wait, but not those due for a retry; return how many they were."""
        left_out = len(self._waiting)
        self._waiting.clear()
        self._heap.clear()
        return left_out

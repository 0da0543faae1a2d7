import time
from pathlib import Path

from runner.gateway.client import Gateway
from runner.gateway.messages import connect
from runner.hosts.door import SOCKET
from runner.hosts.links import Links
from runner.hosts.messages import Chunk, Credit, Gone
from runner.hosts.streams import Stream

# Seconds between two looks for a gateway that is not there.
RETRY = 0.2

# Connections of one host at once; an eval has some dozens.
MOST = 20_000


class Desk:
    """Connects evals on hosts with the gateway here, on the thread of the links.

    Args:
        links: to the hosts.
        gateway: None where evals reach their providers by themselves.
        folder: the gateway's.
    """

    def __init__(self, links: Links, gateway: Gateway | None, folder: Path) -> None:
        self._links = links
        self._gateway = gateway
        self._attempts = folder / "attempts"
        self._streams: dict[tuple[str, int], tuple[str, Stream]] = {}
        # Connections for which there was no gateway yet, and what came of them meanwhile.
        self._waiting: dict[tuple[str, int], tuple[str, list[Chunk | Credit]]] = {}
        self._next = 0.0

    def open(self, host: str, number: int, attempt: str) -> None:
        """An eval has opened a connection."""
        if self._gateway is None or len(self._streams) + len(self._waiting) > MOST:
            self._links.send(host, Gone(stream=number))
            return
        self._waiting[host, number] = attempt, []
        self._connect((host, number))

    def take(self, host: str, message: Chunk | Credit | Gone) -> None:
        """What an eval sends."""
        place = (host, message.stream)
        if place in self._waiting:
            if isinstance(message, Gone):
                del self._waiting[place]
            else:
                self._waiting[place][1].append(message)
        elif place in self._streams:
            self._streams[place][1].take(message)

    def retry(self) -> float | None:
        """Look for the gateway again; return seconds until the next look, None for none."""
        if not self._waiting:
            return None
        now = time.monotonic()
        if now >= self._next:
            self._next = now + RETRY
            for place in list(self._waiting):
                self._connect(place)
        return max(0.0, self._next - now) if self._waiting else None

    def lost(self, host: str) -> None:
        """The link to a host is down."""
        for place in [place for place in self._waiting if place[0] == host]:
            del self._waiting[place]
        for place, (_, stream) in list(self._streams.items()):
            if place[0] == host:
                stream.close()

    def close(self, attempt: str) -> None:
        """An attempt has ended."""
        for place in [it for it, (owner, _) in self._waiting.items() if owner == attempt]:
            del self._waiting[place]
        for owner, stream in list(self._streams.values()):
            if owner == attempt:
                stream.close()

    def _connect(self, place: tuple[str, int]) -> None:
        attempt, came = self._waiting[place]
        host, number = place
        try:
            connection = connect(self._attempts / attempt, SOCKET, RETRY)
        except OSError:
            return
        del self._waiting[place]
        stream = Stream(
            number,
            connection,
            self._links.poller,
            send=lambda message: self._links.send(host, message),
            over=lambda _: self._over(place),
        )
        self._streams[place] = attempt, stream
        for message in came:
            stream.take(message)

    def _over(self, place: tuple[str, int]) -> None:
        self._streams.pop(place, None)

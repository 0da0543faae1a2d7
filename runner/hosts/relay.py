"""Requests of evals on a host reach the gateway here: their connections, carried over the link."""

import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from runner.files import make_folder, named
from runner.gateway.client import FORWARDER, Door
from runner.gateway.messages import Account, connect, listen
from runner.hosts.link import READ, WRITE, Poller
from runner.hosts.links import Links
from runner.hosts.messages import AskWaited, Chunk, Credit, Gone, Message, Open, Waited
from runner.model import Job
from runner.records.folders import remove_tree

# Bytes that each side of a connection may send before the other has passed them on.
WINDOW = 1 << 18

_CHUNK = 1 << 16

# The name of an attempt's socket, where the forwarder in its container looks for it.
SOCKET = "api.sock"

# Seconds that the runner gets to tell how long an attempt waited for its turn.
PATIENCE = 5.0

# Seconds between two looks for a gateway that is not there.
RETRY = 0.2

# Connections of one host at once; an eval has some dozens.
MOST = 20_000


class Stream:
    """One connection: a socket on this side, and a number on the link.

    Attributes:
        ended: whether it is closed.
    """

    def __init__(
        self,
        number: int,
        connection: socket.socket,
        poller: Poller,
        *,
        send: Callable[[Message], None],
        over: Callable[["Stream"], None],
    ) -> None:
        self.number = number
        self.ended = False
        self._socket = connection
        self._descriptor = connection.fileno()
        self._poller = poller
        self._send = send
        self._over = over
        self._credit = WINDOW
        self._rest = bytearray()  # what the socket has not taken yet
        self._all_read = False
        self._all_received = False
        self._all_written = False
        connection.setblocking(False)  # noqa: FBT003 - its only argument
        self._watch()

    def take(self, message: Chunk | Credit | Gone) -> None:
        """What the other side says of this connection."""
        if self.ended:
            return
        match message:
            case Chunk(data=data):
                self._all_received |= not data
                self._rest += data
                self._write()
            case Credit(size=size):
                self._credit += size
                self._watch()
            case Gone():
                self.close()

    def close(self, *, tell: bool = False) -> None:
        """Close it, and tell the other side if it does not know."""
        if self.ended:
            return
        self.ended = True
        self._poller.watch(self._descriptor, 0, self._act)
        self._socket.close()
        if tell:
            self._send(Gone(stream=self.number))
        self._over(self)

    def _watch(self) -> None:
        if self.ended:
            return
        if self._all_read and self._all_written:
            self.close()
            return
        events = READ if self._credit > 0 and not self._all_read else 0
        if self._rest or (self._all_received and not self._all_written):
            events |= WRITE
        self._poller.watch(self._descriptor, events, self._act)

    def _act(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if events & READ and not self.ended:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(min(_CHUNK, max(1, self._credit)))
        except BlockingIOError:
            return
        except OSError:
            self.close(tell=True)
            return
        self._credit -= len(data)
        self._all_read |= not data
        self._send(Chunk(stream=self.number, data=data))
        self._watch()

    def _write(self) -> None:
        try:
            while self._rest:
                sent = self._socket.send(self._rest)
                del self._rest[:sent]
                self._send(Credit(stream=self.number, size=sent))
        except BlockingIOError:
            pass
        except OSError:
            self.close(tell=True)
            return
        if self._all_received and not self._rest and not self._all_written:
            self._all_written = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._watch()


class _Asking:
    """An attempt that may send requests.

    Attributes:
        streams: its connections; those that the runner does not know of yet are only in `waiting`.
        behind: seconds in which a request of it waited for the link.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listener = listen(folder, SOCKET)
        self.listener.listen(1024)
        self.waiting: list[socket.socket] = []
        self.behind = 0.0
        self.behind_since: float | None = None
        self.waited = 0.0
        self.told = threading.Event()


class RelayDoor:
    """Where containers of this host reach the gateway, which is at the other end of the link.

    While the link is down, requests wait, and that time does not count.

    Args:
        folder: for the sockets.
        poller: whose thread moves everything.
    """

    def __init__(self, folder: Path, poller: Poller) -> None:
        self._folder = folder
        self._poller = poller
        self._asking: dict[str, _Asking] = {}
        self._streams: dict[int, tuple[str, Stream]] = {}
        self._numbers = count(1)
        self._send: Callable[[Message], None] | None = None

    # From any thread.

    def enter(self, _: Job, attempt: str) -> Path:
        """Let an attempt send requests; return the folder that its container sees as `/evalset`."""
        folder = self._folder / attempt
        make_folder(folder)
        with named(folder, "write"):
            shutil.copyfile(FORWARDER, folder / FORWARDER.name)
        self._poller.call(lambda: self._listen(attempt, folder))
        return folder

    def account(self, attempt: str) -> Account:
        """How long an attempt has waited, as far as the runner can tell."""
        asking = self._asking.get(attempt)
        if asking is None:
            return Account()
        asking.told.clear()
        self._poller.call(lambda: self._say(AskWaited(attempt=attempt)))
        asking.told.wait(PATIENCE)
        since = asking.behind_since
        behind = asking.behind + (time.monotonic() - since if since else 0.0)
        return Account(waited=asking.waited + behind)

    def leave(self, attempt: str) -> Account:
        """An attempt has ended; what it did the runner asks the gateway."""
        self._poller.call(lambda: self._close(attempt))
        return Account()

    # From the thread of the poller.

    def connect(self, send: Callable[[Message], None]) -> None:
        """The link is there."""
        self._send = send
        for attempt, asking in self._asking.items():
            for connection in asking.waiting:
                self._open(attempt, connection)
            asking.waiting.clear()
            if asking.behind_since:
                asking.behind += time.monotonic() - asking.behind_since
                asking.behind_since = None

    def disconnect(self) -> None:
        """The link is down: what is under way breaks off, what comes waits."""
        self._send = None
        for _, stream in list(self._streams.values()):
            stream.close()

    def take(self, message: Chunk | Credit | Gone | Waited) -> None:
        """What the gateway sends, or how long an attempt has waited for its turn."""
        if isinstance(message, Waited):
            if asking := self._asking.get(message.attempt):
                asking.waited = message.seconds
                asking.told.set()
        elif found := self._streams.get(message.stream):
            found[1].take(message)

    def _say(self, message: Message) -> None:
        if self._send:
            self._send(message)

    def _listen(self, attempt: str, folder: Path) -> None:
        if attempt in self._asking:
            return
        asking = self._asking[attempt] = _Asking(folder)
        self._poller.watch(asking.listener.fileno(), READ, lambda _: self._accept(attempt, asking))

    def _accept(self, attempt: str, asking: _Asking) -> None:
        try:
            connection, _ = asking.listener.accept()
        except OSError:  # it has gone meanwhile, or no descriptor is left
            return
        if self._send is None:
            asking.waiting.append(connection)
            asking.behind_since = asking.behind_since or time.monotonic()
        else:
            self._open(attempt, connection)

    def _open(self, attempt: str, connection: socket.socket) -> None:
        number = next(self._numbers)
        self._say(Open(stream=number, attempt=attempt))
        stream = Stream(
            number,
            connection,
            self._poller,
            send=self._say,
            over=self._is_over,
        )
        self._streams[number] = attempt, stream

    def _is_over(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)

    def _close(self, attempt: str) -> None:
        asking = self._asking.pop(attempt, None)
        if asking is None:
            return
        self._poller.watch(asking.listener.fileno(), 0, lambda _: None)
        asking.listener.close()
        for connection in asking.waiting:
            connection.close()
        for owner, stream in list(self._streams.values()):
            if owner == attempt:
                stream.close(tell=True)
        remove_tree(asking.folder)


class RelayDesk:
    """Connects evals on hosts with the gateway here, on the thread of the links.

    Args:
        links: to the hosts.
        gateway: None where evals reach their providers by themselves.
        folder: the gateway's.
    """

    def __init__(self, links: Links, gateway: Door | None, folder: Path) -> None:
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

import shutil
import socket
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from runner.files import make_folder, named
from runner.gateway.client import FORWARDER
from runner.gateway.messages import Account, listen
from runner.hosts.link import READ, Poller
from runner.hosts.messages import AskWaited, Chunk, Credit, Gone, Message, Open, Waited
from runner.hosts.streams import Stream
from runner.model import Job
from runner.records.folders import remove_tree

# The name of an attempt's socket, where the forwarder in its container looks for it.
SOCKET = "api.sock"

# Seconds that the runner gets to tell how long an attempt waited for its turn.
PATIENCE = 5.0


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

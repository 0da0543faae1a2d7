import socket
import sys
import time
from contextlib import suppress

from runner.engine.container import remove
from runner.engine.ending import Cut
from runner.gateway.messages import listen
from runner.hosts.attempts import HostAttempts
from runner.hosts.link import READ, Link, Poller
from runner.hosts.messages import (
    LARGEST_SETUP,
    PROTOCOL,
    Chunk,
    Credit,
    End,
    Gone,
    Hello,
    Inventory,
    Message,
    Read,
    Refused,
    Room,
    Say,
    Settle,
    Setup,
    Start,
    Waited,
)
from runner.hosts.relay import RelayDoor
from runner.hosts.spool import Spool

SOCKET = "agent.sock"

# Seconds between two words to the runner, and after which a runner that says nothing has gone.
BEAT = 3.0
SILENCE = 60.0

# Seconds without a runner and without attempts after which an agent ends for good.
PATIENCE = 24 * 3600.0

TAKEN = "a newer run has taken this host over"


class Agent:
    """Makes attempts on this host's engine for a runner, and keeps their ends until it has them.

    Args:
        spool: where it keeps them.
        container: name of the agent's own container; empty for one that ends with its link.
    """

    def __init__(self, spool: Spool, container: str) -> None:
        self._spool = spool
        self._container = container
        self._poller = Poller()
        self._door = RelayDoor(spool.gateway, self._poller)
        self._attempts = HostAttempts(
            spool, self._poller, self._door, say=self._say, broken=self._break_off
        )
        self._link: Link | None = None
        self._who = spool.who
        self._needed = time.monotonic()
        self._served = False
        self._over: int | None = None

    def serve(self, descriptors: tuple[int, int] | None = None) -> int:
        """Serve runners until nobody needs it; return the exit status.

        Args:
            descriptors: of the only link; None to listen on the spool's socket.
        """
        self._attempts.take_over()
        if descriptors is not None:
            self._accept(*descriptors)
        else:
            listener = listen(self._spool.socket, SOCKET)
            listener.listen(16)
            self._poller.watch(listener.fileno(), READ, lambda _: self._take_in(listener))
        due = time.monotonic()
        while self._over is None:
            self._poller.step(max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                self._beat()
                due = time.monotonic() + BEAT
            self._end_without_link()
        if self._link is not None:
            self._link.close()
        if self._over == 0 and self._attempts.are_none and not self._container:
            self._spool.remove()
        return self._over

    # Links.

    def _take_in(self, listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            descriptor = connection.detach()
            self._accept(descriptor, descriptor)

    def _accept(self, source: int, target: int) -> None:
        """Take a new link; it becomes the link with its `Hello`."""
        link: Link

        def take(message: Message) -> None:
            if link is self._link:
                self._react(message)
            elif isinstance(message, Hello):
                self._greet(link, message)

        link = Link(
            self._poller,
            source,
            target,
            take=take,
            lost=lambda _: self._lost(link),
            largest=LARGEST_SETUP,
        )

    def _greet(self, link: Link, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            why = (
                f"the agent there is of another version of evalset (protocol {PROTOCOL}, here "
                f"{hello.protocol}); use that version, or let `evalset run` replace the agent"
            )
            link.send(Refused(why=why))
            return
        who = hello.epoch, hello.run
        if hello.epoch < self._who[0] or (hello.epoch == self._who[0] and who != self._who):
            link.send(Refused(why=TAKEN, epoch=self._who[0]))
            return
        if self._link is not None and self._link is not link:
            self._link.send(Refused(why=TAKEN, epoch=hello.epoch))
            self._link.close()
            self._door.disconnect()
        if who != self._who:
            self._who = who
            self._spool.keep_who(who)
        self._link = link
        info = self._attempts.engine.info()
        link.send(
            Inventory(cpus=info.cpus, rootless=info.rootless, attempts=self._attempts.there())
        )
        self._attempts.tell_ended()
        self._door.connect(self._say)

    def _lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._door.disconnect()
            self._needed = time.monotonic()
        self._served = True

    def _end_without_link(self) -> None:
        """End where there can be no other link, once what is settled has gone."""
        alone = self._served and self._link is None and not self._container
        if alone and self._over is None and not self._attempts.are_going:
            self._over = 0

    def _say(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message)

    def _beat(self) -> None:
        now = time.monotonic()
        if self._link is not None:
            if now - self._link.heard > SILENCE and self._container:
                self._link.close()
                self._lost(self._link)
            else:
                with suppress(OSError):
                    self._say(Room(free=self._spool.free()))
        elif self._attempts.are_none and now - self._needed > PATIENCE:
            self._leave()

    def _leave(self) -> None:
        """End for good, and let the engine remove this container."""
        self._over = 0
        if self._container:
            remove(self._attempts.engine.api, self._container)

    # What a runner says.

    def _react(self, message: Message) -> None:
        match message:
            case Hello() if self._link is not None:
                self._greet(self._link, message)
            case Setup():
                self._attempts.set_up(message)
            case Start(attempt=attempt, job=job):
                self._attempts.start(attempt, job)
            case End(attempt=attempt, why=why, signal=signal):
                self._attempts.end(attempt, Cut(why=why), signal)
            case Read(attempt=attempt, name=name, offset=offset):
                self._attempts.send_piece(attempt, name, offset)
            case Settle(attempt=attempt):
                self._attempts.settle(attempt)
            case Chunk() | Credit() | Gone() | Waited():
                self._door.take(message)
            case _:
                pass  # a Ping

    def _break_off(self, error: BaseException) -> None:
        """End with all attempts left as they are: what starts this agent again takes them over."""
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        self._say(Say(text=f"its agent starts again: {error}"))
        self._over = 1

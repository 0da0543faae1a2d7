"""Connections of evals to the gateway, carried over a link; the same on both of its sides."""

import socket
from collections.abc import Callable
from contextlib import suppress

from runner.hosts.link import READ, WRITE, Poller
from runner.hosts.messages import Chunk, Credit, Gone, Message

# Bytes that each side of a connection may send before the other has passed them on.
WINDOW = 1 << 18

_CHUNK = 1 << 16


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

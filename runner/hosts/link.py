"""One thread that reads and writes many descriptors, and links that carry messages over them."""

import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from runner.hosts.messages import LARGEST, Message, packed, unpacked

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

# Bytes taken from a descriptor at once.
_CHUNK = 1 << 18


class Poller:
    """Calls what belongs to each descriptor that is ready; only `call` may come from any thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._acts: dict[int, Callable[[int], None]] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = threading.Event()
        self._out, self._in = os.pipe()
        for each in (self._out, self._in):
            os.set_blocking(each, False)
        self.watch(self._out, READ, lambda _: self._awake())

    def _awake(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._out, _CHUNK)

    def call(self, act: Callable[[], None]) -> None:
        """Have something done by the thread that steps."""
        self._calls.append(act)
        if not self._woken.is_set():
            self._woken.set()
            with suppress(BlockingIOError, OSError):
                os.write(self._in, b"\0")

    def watch(self, descriptor: int, events: int, act: Callable[[int], None]) -> None:
        """Call `act` with the events when they come; with 0 events, never again."""
        known = descriptor in self._acts
        if not events:
            if known:
                del self._acts[descriptor]
                self._selector.unregister(descriptor)
            return
        self._acts[descriptor] = act
        if known:
            self._selector.modify(descriptor, events)
        else:
            self._selector.register(descriptor, events)

    def step(self, timeout: float | None) -> None:
        """Wait for something to happen, and act on it."""
        for key, events in self._selector.select(timeout):
            act = self._acts.get(key.fd)  # it may have gone by what was done before
            if act is not None:
                act(events)
        self._woken.clear()
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def close(self) -> None:
        """Give up the descriptors of its own."""
        self._selector.close()
        os.close(self._out)
        os.close(self._in)


class Link:
    """Carries messages over two descriptors, which it closes in the end.

    Args:
        poller: whose thread alone may use it.
        source: to read from.
        target: to write to; it may be the same.
        take: gets each message.
        lost: is called once, when the other side has gone or sends what is no message; never while
            a message is being sent or taken.
        largest: bytes that a message from there may have.

    Attributes:
        heard: when something was last received, by `time.monotonic`.
    """

    def __init__(
        self,
        poller: Poller,
        source: int,
        target: int,
        *,
        take: Callable[[Message], None],
        lost: Callable[[str], None],
        largest: int = LARGEST,
    ) -> None:
        self._poller = poller
        self._source = source
        self._target = target
        self._take = take
        self._lost = lost
        self._largest = largest
        self._received = bytearray()
        self._to_send: deque[memoryview] = deque()
        self.heard = time.monotonic()
        self.closed = False
        self._given_up = False
        for each in {source, target}:
            os.set_blocking(each, False)
        self._watch()

    def send(self, message: Message) -> None:
        """Send a message; one for a link that is closed is dropped."""
        if self.closed:
            return
        self._to_send.append(memoryview(packed(message)))
        self._write()

    def close(self) -> None:
        """Close it, without a word to `lost`."""
        self._given_up = True
        self._shut()

    def _shut(self) -> None:
        if self.closed:
            return
        self.closed = True
        for each in {self._source, self._target}:
            self._poller.watch(each, 0, _nothing)
            os.close(each)

    def _watch(self) -> None:
        wants = WRITE if self._to_send else 0
        if self._source == self._target:
            self._poller.watch(self._source, READ | wants, self._act)
        else:
            self._poller.watch(self._source, READ, self._act)
            self._poller.watch(self._target, wants, self._act)

    def _act(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if events & READ and not self.closed:
            self._read()

    def _write(self) -> None:
        try:
            while self._to_send:
                first = self._to_send[0]
                sent = os.write(self._target, first)
                if sent < len(first):
                    self._to_send[0] = first[sent:]
                else:
                    self._to_send.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(str(error.strerror or error))
            return
        self._watch()

    def _read(self) -> None:
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(str(error.strerror or error))
            return
        if not data:
            self._break("it closed the connection")
            return
        self.heard = time.monotonic()
        self._received += data
        try:
            messages = unpacked(self._received, self._largest)
        except ValueError as error:  # msgspec's errors are ValueErrors
            self._break(str(error))
            return
        for message in messages:
            if self.closed:
                return
            self._take(message)

    def _break(self, why: str) -> None:
        if not self.closed:
            self._shut()
            self._poller.call(lambda: self._tell_lost(why))

    def _tell_lost(self, why: str) -> None:
        if not self._given_up:
            self._lost(why)


def _nothing(_: int) -> None:
    """A descriptor that nobody watches."""

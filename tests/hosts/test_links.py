"""Messages, the links that carry them, and the connections in them."""

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from runner.hosts import links
from runner.hosts.link import Link, Poller
from runner.hosts.messages import LARGEST, Hello, Inventory, Message, Ping, Read, packed, unpacked
from runner.hosts.relay import WINDOW, Stream


@pytest.fixture
def poller() -> Iterator[Poller]:
    """A poller that the test steps."""
    made = Poller()
    yield made
    made.close()


def step_until(poller: Poller, ask: Callable[[], object]) -> None:
    """Step until the answer is true."""
    end = time.monotonic() + 20
    while not ask():
        assert time.monotonic() < end
        poller.step(0.05)


def test_messages_are_what_they_were(poller: Poller) -> None:
    """However they are cut on their way."""
    sent = [Hello(protocol=1, epoch=2, run="r"), Ping(), Read(attempt="a", name="b", offset=3)]
    buffer = bytearray()
    got: list[Message] = []
    for byte in b"".join(map(packed, sent)):
        buffer.append(byte)
        got += unpacked(buffer, LARGEST)
    assert got == sent
    assert not buffer
    poller.step(0)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"Welcome to lab-a!\n", b"\0\0\0\x01x", b"\0\0\0\x02\x92\xa1"]
)
def test_what_is_no_message_breaks_the_link(poller: Poller, data: bytes) -> None:
    """Such as what a login shell prints; nobody waits for the rest of it."""
    here, there = socket.socketpair()
    lost: list[str] = []
    descriptor = here.detach()
    link = Link(poller, descriptor, descriptor, take=lambda _: None, lost=lost.append)
    there.sendall(data)
    step_until(poller, lambda: lost)
    assert link.closed
    there.close()


def test_a_link_says_once_that_it_is_lost(poller: Poller) -> None:
    """And drops what is sent then."""
    here, there = socket.socketpair()
    lost: list[str] = []
    descriptor = here.detach()
    link = Link(poller, descriptor, descriptor, take=lambda _: None, lost=lost.append)
    there.close()
    step_until(poller, lambda: lost)
    link.send(Ping())
    link.close()
    assert len(lost) == 1


def test_large_messages_get_through_a_slow_pipe(poller: Poller) -> None:
    """Over two descriptors, as those of a process are."""
    source, target = os.pipe()
    back, nowhere = os.pipe()
    got: list[Message] = []
    reader = Link(poller, source, nowhere, take=got.append, lost=lambda _: None)
    writer = Link(poller, back, target, take=got.append, lost=lambda _: None)
    sent = [Read(attempt="x" * 3_000_000, name=str(number), offset=number) for number in range(3)]
    for message in sent:
        writer.send(message)
    step_until(poller, lambda: len(got) == 3)
    assert got == sent
    reader.close()
    writer.close()


class Connection:
    """A client and a server whose connection goes through two streams.

    Attributes:
        client: the socket of the client.
        server: the socket of the server.
    """

    def __init__(self, poller: Poller) -> None:
        self.over: list[Stream] = []
        self.client, near = socket.socketpair()
        far, self.server = socket.socketpair()
        for each in (self.client, self.server):
            each.setblocking(False)  # noqa: FBT003 - its only argument
        self.near: Stream
        self.far: Stream
        # Messages arrive later, as over a link.
        self.near = Stream(
            1,
            near,
            poller,
            send=lambda it: poller.call(lambda: self.far.take(it)),  # type: ignore[arg-type] # of these three
            over=self.over.append,
        )
        self.far = Stream(
            1,
            far,
            poller,
            send=lambda it: poller.call(lambda: self.near.take(it)),  # type: ignore[arg-type] # as above
            over=self.over.append,
        )

    def close(self) -> None:
        """Close all that is still open."""
        for each in (self.near, self.far, self.client, self.server):
            each.close()


@pytest.fixture
def made(poller: Poller) -> Iterator[Connection]:
    """A connection."""
    connection = Connection(poller)
    yield connection
    connection.close()


def test_a_connection_carries_both_ways_and_ends_in_each(poller: Poller, made: Connection) -> None:
    """A client may have said all while the server still answers."""
    asked, answer = os.urandom(3 * WINDOW), os.urandom(2 * WINDOW)
    seen, heard = bytearray(), bytearray()
    to_send = [memoryview(asked), memoryview(answer)]

    def move() -> bool:
        for index, end in enumerate((made.client, made.server)):
            if to_send[index]:
                try:
                    to_send[index] = to_send[index][end.send(to_send[index]) :]
                except BlockingIOError:
                    continue
                if not to_send[index]:
                    end.shutdown(socket.SHUT_WR)
        for end, into in ((made.server, seen), (made.client, heard)):
            try:
                into.extend(end.recv(1 << 16))
            except BlockingIOError:
                continue
        return len(seen) == len(asked) and len(heard) == len(answer) and len(made.over) == 2

    step_until(poller, move)
    assert (bytes(seen), bytes(heard)) == (asked, answer)


def test_a_server_that_reads_nothing_holds_the_client_up(poller: Poller, made: Connection) -> None:
    """So that neither side keeps more than a little in memory."""
    sent = 0
    quiet = 0
    while quiet < 20:
        try:
            sent += made.client.send(bytes(1 << 16))
            quiet = 0
        except BlockingIOError:
            quiet += 1
        poller.step(0)
    room = 8 << 20  # of the two pairs of sockets, by far
    assert sent < WINDOW + room
    assert len(made.far._rest) <= WINDOW


def test_a_connection_that_breaks_here_breaks_there(poller: Poller, made: Connection) -> None:
    """As when a container is killed."""
    made.near.close(tell=True)
    step_until(poller, lambda: len(made.over) == 2)
    made.server.setblocking(True)  # noqa: FBT003 - its only argument
    assert made.server.recv(1) == b""


def test_who_has_not_answered_after_a_while_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a run waits for agents, and must not be silent meanwhile."""
    monkeypatch.setattr(links, "SLOW", 0.0)
    monkeypatch.setattr(links, "ANSWER", 1.0)
    told: list[list[str]] = []
    collector = links.Collector(["a", "b", "c"], lambda _: None)
    collector.up("b", Inventory(cpus=1, rootless=False, attempts=()))
    collector.wait(lambda hosts: told.append([*hosts]))
    assert told == [["a", "c"]]


def test_an_agent_of_another_version_is_not_waited_for() -> None:
    """It will not say anything else."""
    collector = links.Collector(["a"], lambda _: None)
    collector.refused("a", "it is of another version")
    began = time.monotonic()
    collector.wait()
    assert time.monotonic() - began < links.SLOW
    assert collector.problems == {"a": "it is of another version"}

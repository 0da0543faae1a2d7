"""What a runner and the agents on its hosts tell each other, one msgpack array for each message."""

from typing import Any

import msgspec

from runner.engine.attempt import Made
from runner.model import Job, decode_command

# Raised whenever a runner and an agent of different versions would not understand each other.
PROTOCOL = 2

# Bytes of a message at most: from a host, which is not trusted, and from a runner, which may have
# to name very many files. And of a piece of a file.
LARGEST = 8 * 2**20
LARGEST_SETUP = 2**30
PIECE = 2**20


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message of either side."""


# From the runner.


class Hello(Message, frozen=True, kw_only=True):
    """The first message: which runner this is.

    Attributes:
        epoch: rises with each run of a progress directory; a smaller one than before is refused,
            and the same one of another run, as a copy of the directory may have.
        run: id of the run.
    """

    protocol: int
    epoch: int
    run: str


class HostData(msgspec.Struct, frozen=True, kw_only=True):
    """Fetched data of an eval: their folder on the host, and the paths of their files in it."""

    content: str
    paths: tuple[str, ...]


class Setup(Message, frozen=True, kw_only=True):
    """What all attempts of a run share, with paths and ids of the agent's host.

    Attributes:
        images: ids by the names that jobs use.
        added: ids of images with packages, by name and requirements.
        registries: folder on the host, and place in the container.
        code: folder on the host by the folder that jobs name.
        classes: folder of the registry that defines models by their classes.
        hide: a folder that no eval may see, where it lies in a folder of code.
        user: `uid:gid` of evals.
        shared_network: whether the network that evals share is needed.
        samples: whether somebody wants to know how many samples are done.
    """

    run: str
    images: dict[str, str]
    added: tuple[tuple[str, str | None, str], ...]
    python_paths: dict[str, str]
    registries: tuple[tuple[str, str], ...]
    code: dict[str, str]
    classes: str | None
    hide: str | None
    environment: dict[str, str]
    user: str
    gateway: bool
    shared_network: bool
    samples: bool = False
    data: dict[str, HostData]


class Start(Message, frozen=True, kw_only=True):
    """Make this attempt, unless it is known already."""

    attempt: str
    job: Job


class End(Message, frozen=True, kw_only=True):
    """Signal the container of an attempt to end, now or when it runs."""

    attempt: str
    why: str
    signal: str


class Read(Message, frozen=True, kw_only=True):
    """Send a piece of a file of an attempt that has ended; the console log has an empty name."""

    attempt: str
    name: str
    offset: int


class Settle(Message, frozen=True, kw_only=True):
    """An attempt that has ended is on record: its container and its files may go."""

    attempt: str


class Waited(Message, frozen=True, kw_only=True):
    """Seconds in which an attempt waited for its turn at a provider."""

    attempt: str
    seconds: float


# From an agent.


class Refused(Message, frozen=True, kw_only=True):
    """The agent does not serve this runner.

    Attributes:
        epoch: the newest one it knows, where that is why; else 0.
    """

    why: str
    epoch: int = 0


class There(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt on a host; of one that has ended, `HasEnded` follows."""

    attempt: str
    job: Job
    container: str = ""
    ended: bool = False


class LeftFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an attempt left: its path below `evallogs`, empty for the console log."""

    name: str
    size: int


class HasEnded(Message, frozen=True, kw_only=True):
    """An attempt has ended; the host keeps everything until it is settled.

    Attributes:
        files: what it left in `evallogs`, and its console log.
        warnings: what was left out, one line each.
    """

    attempt: str
    job: Job
    made: Made
    files: tuple[LeftFile, ...]
    warnings: tuple[str, ...] = ()


class Inventory(Message, frozen=True, kw_only=True):
    """The answer to `Hello`: the host, and all attempts that it has.

    Attributes:
        cpus: that the engine has.
        rootless: whether root in a container is the engine's own user outside.
    """

    cpus: int
    rootless: bool
    attempts: tuple[There, ...]


class HasStarted(Message, frozen=True, kw_only=True):
    """The container of an attempt runs."""

    attempt: str
    container: str


class HasSucceeded(Message, frozen=True, kw_only=True):
    """The container of an attempt has ended well; what it left is still being collected there."""

    attempt: str


class HasSettled(Message, frozen=True, kw_only=True):
    """Nothing is left of an attempt."""

    attempt: str


class CannotStart(Message, frozen=True, kw_only=True):
    """No attempt of this kind can run on this host.

    Attributes:
        what: happened.
        cure: what to do.
    """

    attempt: str
    what: str
    cure: str


class Sampled(Message, frozen=True, kw_only=True):
    """How many samples of an eval are done."""

    attempt: str
    samples: int
    of: int


class Piece(Message, frozen=True, kw_only=True):
    """A piece of a file; an empty one comes after its end."""

    attempt: str
    name: str
    offset: int
    data: bytes


class Room(Message, frozen=True, kw_only=True):
    """Bytes that are free on the host's disk."""

    free: int


class AskWaited(Message, frozen=True, kw_only=True):
    """How long has an attempt waited for its turn at a provider?"""

    attempt: str


class Say(Message, frozen=True, kw_only=True):
    """Something to tell people."""

    text: str


# From either.


class Ping(Message, frozen=True, kw_only=True):
    """The other side is there."""


class Open(Message, frozen=True, kw_only=True):
    """An eval has opened a connection to the gateway."""

    stream: int
    attempt: str


class Chunk(Message, frozen=True, kw_only=True):
    """What one side of a connection sent; empty at its end."""

    stream: int
    data: bytes


class Credit(Message, frozen=True, kw_only=True):
    """The other side may send so many bytes more."""

    stream: int
    size: int


class Gone(Message, frozen=True, kw_only=True):
    """A connection is broken."""

    stream: int


AnyMessage = (
    Hello
    | Setup
    | Start
    | End
    | Read
    | Settle
    | Waited
    | Refused
    | HasEnded
    | Inventory
    | HasStarted
    | HasSucceeded
    | HasSettled
    | CannotStart
    | Sampled
    | Piece
    | Room
    | AskWaited
    | Say
    | Ping
    | Open
    | Chunk
    | Credit
    | Gone
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    AnyMessage, dec_hook=decode_command
)

_HEAD = 4


def packed(message: Message) -> bytes:
    """A message as it is sent: its length, then the message."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(_HEAD) + body


def unpacked(buffer: bytearray, largest: int) -> list[Message]:
    """Take the whole messages off the front of what was received.

    Args:
        largest: bytes that a message may have.

    Raises:
        ValueError: these are no messages.
    """
    found = []
    start = 0
    while len(buffer) - start >= _HEAD:
        size = int.from_bytes(buffer[start : start + _HEAD])
        if size > largest:
            raise ValueError("it sent something other than messages")
        if len(buffer) - start - _HEAD < size:
            break
        start += _HEAD
        found.append(_DECODER.decode(memoryview(buffer)[start : start + size]))
        start += size
    del buffer[:start]
    return found

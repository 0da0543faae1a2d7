"""Lets a program in a container reach the gateway: passes 127.0.0.1:8470 on to a Unix socket.

`python3 -S -E forward.py PROGRAM ARGS...` becomes the program once the port is open; another
process passes on what is sent. It runs on the Python of any image, 3.7 or later and often without
bytecode. So it imports only modules in C: `os` would take 15 ms there, `socket` 30, `asyncio` 200.
"""

import _signal  # type: ignore[import-not-found] # typeshed lacks it
import _socket
import errno
import posix
import resource
import select
import sys
import time

SOCKET = "/evalset/api.sock"
ADDRESS = "127.0.0.1"
PORT = 8470

RETRY = 0.1  # seconds between two looks for a gateway that is not there
CHUNK = 1 << 16  # bytes

# Events of a connection; the poll reports each change once.
GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
CHANGES = select.EPOLLIN | select.EPOLLOUT | GONE | select.EPOLLET

# Exit statuses: two as tini and shells have them, one as Docker has for its own faults.
MISSING = 127
UNFIT = 126
UNREACHABLE = 125


class Way:
    """One direction of a connection."""

    def __init__(self, source: _socket.socket, target: _socket.socket) -> None:
        self.source = source
        self.target = target
        self.rest = b""  # what the target has not taken yet
        self.ended = False

    def move(self) -> None:
        """Pass on all that the source has now and the target takes now."""
        try:
            while not self.ended:
                if self.rest:
                    self.rest = self.rest[self.target.send(self.rest) :]
                else:
                    self.rest = self.source.recv(CHUNK)
                    self.ended = not self.rest
        except BlockingIOError:
            return
        except OSError:  # one of them has gone
            self.ended = True
        try:  # noqa: SIM105 - contextlib would have to be imported
            self.target.shutdown(_socket.SHUT_WR)
        except OSError:
            pass


class Forwarder:
    """Passes on what clients and the gateway send to each other."""

    def __init__(self, listener: _socket.socket) -> None:
        self.listener = listener
        self.poll = select.epoll()
        self.poll.register(listener.fileno(), select.EPOLLIN)
        self.waiting: dict[int, _socket.socket] = {}  # clients without a gateway, by descriptor
        self.ways: dict[int, tuple[Way, Way]] = {}  # both, by each socket's descriptor

    def run(self) -> None:
        """Pass on until the process is killed."""
        while True:
            ready = dict(self.poll.poll(RETRY if self.waiting else -1))
            for descriptor, events in ready.items():
                if descriptor in self.ways:
                    self.move(*self.ways[descriptor])
                elif descriptor in self.waiting and events & GONE:
                    self.waiting.pop(descriptor).close()
            # After all events, because a new socket may get the descriptor of one that they closed.
            if self.listener.fileno() in ready:
                self.accept()
            self.connect()

    def accept(self) -> None:
        """Let a client wait for the gateway; what it sends meanwhile is not read."""
        try:
            descriptor, _ = self.listener._accept()  # type: ignore[attr-defined] # typeshed lacks it
        except OSError:  # no descriptor is left
            time.sleep(RETRY)
            return
        client = self.waiting[descriptor] = _socket.socket(fileno=descriptor)
        client.setblocking(False)  # noqa: FBT003 - its only form
        self.poll.register(descriptor, CHANGES)

    def connect(self) -> None:
        """Connect each client that waits to the gateway, if that is there."""
        while self.waiting:
            try:
                gateway = _socket.socket(_socket.AF_UNIX)
            except OSError:  # no descriptor is left
                return
            gateway.setblocking(False)  # noqa: FBT003 - its only form
            if gateway.connect_ex(SOCKET):
                gateway.close()
                return
            client = self.waiting.pop(next(iter(self.waiting)))
            ways = Way(client, gateway), Way(gateway, client)
            self.ways[client.fileno()] = self.ways[gateway.fileno()] = ways
            self.poll.register(gateway.fileno(), CHANGES)

    def move(self, up: Way, down: Way) -> None:
        """Pass on what there is in both directions; close the connection once both have ended."""
        up.move()
        down.move()
        if up.ended and down.ended:
            for it in up.source, up.target:
                del self.ways[it.fileno()]
                it.close()


def detach(listener: _socket.socket) -> None:
    """Give up the session, the current folder and the descriptors of the program."""
    posix.setsid()
    posix.chdir("/")
    nothing = posix.open("/dev/null", posix.O_RDWR)
    for stream in range(3):
        posix.dup2(nothing, stream)
    for descriptor in map(int, posix.listdir("/proc/self/fd")):
        if descriptor not in {0, 1, 2, listener.fileno()}:
            posix.closerange(descriptor, descriptor + 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def start_forwarder() -> None:
    """Open the port, and pass on in a process that is not the program's child.

    Raises:
        OSError: the port is taken, or there is no room for another process.
    """
    listener = _socket.socket()
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.setsockopt(
        _socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1
    )  # accepted connections inherit it
    listener.bind((ADDRESS, PORT))
    listener.listen(1024)
    child = posix.fork()
    if child == 0:
        status = 1
        try:
            detach(listener)
            if posix.fork() == 0:
                Forwarder(listener).run()
            status = 0
        finally:
            posix._exit(status)
    if posix.waitpid(child, 0)[1]:
        raise BlockingIOError(errno.EAGAIN, posix.strerror(errno.EAGAIN))


def become(argv: "list[str]") -> OSError:
    """Become the program, as tini does with execvp(3); return why that is not possible."""
    # Python ignores these, and may have set LC_CTYPE; the program must not notice.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    with open("/proc/self/environ", "rb") as file:
        pairs = (it.partition(b"=") for it in file.read().split(b"\0"))
        environment = {name: value for name, _, value in pairs if name}
    path = environment.get(b"PATH", b"/bin:/usr/bin")
    folders = path.decode(sys.getfilesystemencoding(), "surrogateescape").split(":")
    problem: OSError = FileNotFoundError(errno.ENOENT, posix.strerror(errno.ENOENT))
    for folder in [""] if "/" in argv[0] else folders:
        found = f"{folder}/{argv[0]}" if folder else argv[0]
        try:
            posix.execve(found, argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            problem = error
            if error.errno == errno.ENOEXEC:  # a script without `#!`
                posix.execve("/bin/sh", ["sh", found, *argv[1:]], environment)
    return problem


def fail(status: int, what: str, why: OSError) -> int:
    """Print an error in the form of tini, whose lines begin with its name."""
    print(f"[FATAL forward.py ({posix.getpid()})] {what} failed: {why.strerror}", file=sys.stderr)
    return status


def main(argv: "list[str]") -> int:
    """Run the program of this command line; returns only if that is not possible.

    `--listen=ADDRESS` before it is for containers that share a loopback.
    """
    global ADDRESS  # noqa: PLW0603 - a program of one file
    if argv[0].startswith("--listen="):
        ADDRESS = argv.pop(0)[len("--listen=") :]
    try:
        start_forwarder()
    except OSError as error:
        return fail(UNREACHABLE, f"listen on {ADDRESS}:{PORT}", error)
    why = become(argv)
    return fail(MISSING if why.errno == errno.ENOENT else UNFIT, f"exec {argv[0]}", why)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

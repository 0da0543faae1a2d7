"""Lets a program in a container reach the gateway: passes 127.0.0.1:8470 on to a Unix socket.

`python3 -S -E forward.py PROGRAM ARGS...` becomes the program once the port is open; a process of
its own passes on. It runs on the Python of anybody's image, 3.7 or later and often without
bytecode: hence only modules in C, because `socket` and `signal` take 30 ms there, `asyncio` 200.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # typeshed lacks it
import _socket
import errno
import os
import resource
import select
import sys
import time

SOCKET = "/evalset/api.sock"
PORT = 8470

RETRY = 0.1  # seconds until the next look for a gateway that is not there
CHUNK = 1 << 16  # bytes

# As tini and shells have them: nothing to run, nothing that can run. Docker's for its own failures.
MISSING, UNFIT, NO_PORT = 127, 126, 125


class End:
    """One of the two sockets of a connection: the client's or the gateway's."""

    def __init__(self, socket: _socket.socket, *, is_gateway: bool) -> None:
        socket.setblocking(False)  # noqa: FBT003 - the only way without a timeout
        self.socket = socket
        self.is_gateway = is_gateway
        self.other = self  # until there is a gateway
        self.rest = b""  # what this end has not taken yet
        self.ended = False  # has said all that it will
        self.events = 0  # that are waited for

    def take(self, data: bytes) -> None:
        """Send to this end what it takes now."""
        try:
            data = data[self.socket.send(data) :]
        except BlockingIOError:
            pass
        except OSError:
            if not self.is_gateway:
                raise
            data = b""  # it hears no more, yet its answer may still be unread
        self.rest = data

    def tell(self) -> None:
        """Pass on to the other end what this one says, or that it says no more."""
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return
        if data:
            self.other.take(data)
        else:
            self.ended = True
            self.other.socket.shutdown(_socket.SHUT_WR)


class Forwarder:
    """Passes on what clients and the gateway say to each other."""

    def __init__(self, listener: _socket.socket) -> None:
        self.listener = listener
        self.poll = select.epoll()
        self.poll.register(listener.fileno(), select.EPOLLIN)
        self.ends: dict[int, End] = {}  # by descriptor
        self.waiting: list[End] = []  # clients that have no gateway yet

    def run(self) -> None:
        """Pass on until the process is killed."""
        while True:
            ready = [it for it, _ in self.poll.poll(RETRY if self.waiting else -1)]
            for descriptor in ready:
                if descriptor in self.ends:
                    self.step(self.ends[descriptor])
            # After the events: a new socket may have the descriptor of one that they closed.
            if self.listener.fileno() in ready:
                self.accept()
            self.connect()

    def accept(self) -> None:
        """Let a client wait for the gateway; until then it is not read, and can only go."""
        try:
            descriptor, _ = self.listener._accept()  # type: ignore[attr-defined] # typeshed lacks it
        except OSError:  # no descriptor is left
            time.sleep(RETRY)
            return
        client = End(_socket.socket(fileno=descriptor), is_gateway=False)
        self.ends[descriptor] = client
        self.waiting.append(client)
        self.watch(client, select.EPOLLRDHUP)

    def connect(self) -> None:
        """Give each client that waits a connection to the gateway, if that is there."""
        while self.waiting:
            try:
                socket = _socket.socket(_socket.AF_UNIX)
            except OSError:  # no descriptor is left
                return
            client, gateway = self.waiting[0], End(socket, is_gateway=True)
            if socket.connect_ex(SOCKET):
                socket.close()
                return
            del self.waiting[0]
            client.other, gateway.other = gateway, client
            self.ends[socket.fileno()] = gateway
            self.step(client)

    def step(self, end: End) -> None:
        """Pass on what one end takes and says now; close both once they have ended."""
        other = end.other
        gone = other is end
        try:
            if end.rest:
                end.take(end.rest)
            if not (gone or end.ended or other.rest):
                end.tell()
        except OSError:
            gone = True
        if gone or (end.ended and other.ended):
            self.close(end)
            return
        for it in (end, other):
            # Who has not taken all yet stops the other from being read.
            reads = not (it.ended or it.other.rest)
            self.watch(it, reads * select.EPOLLIN | bool(it.rest) * select.EPOLLOUT)

    def watch(self, end: End, events: int) -> None:
        """Wait for these events; for none, not even for errors, if there are none."""
        if events != end.events:
            if end.events:
                self.poll.unregister(end.socket.fileno())
            if events:
                self.poll.register(end.socket.fileno(), events)
            end.events = events

    def close(self, end: End) -> None:
        """Close both ends."""
        if end in self.waiting:
            self.waiting.remove(end)
        for it in {end, end.other}:
            del self.ends[it.socket.fileno()]
            it.socket.close()


def detach(listener: _socket.socket) -> None:
    """Hold nothing of the program's: no session, no folder, no descriptor."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in {0, 1, 2, listener.fileno()}:
            os.closerange(descriptor, descriptor + 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def start_forwarder() -> None:
    """Open the port, and pass on in a process that is not the program's child.

    Raises:
        OSError: the port is taken.
    """
    listener = _socket.socket()
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)  # connections inherit it
    listener.bind(("127.0.0.1", PORT))
    listener.listen(1024)
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                detach(listener)
                Forwarder(listener).run()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def become(argv: list[str]) -> OSError:
    """Become the program, as execvp(3) does it for tini; return why that is not possible."""
    # Python ignores these, and may have set LC_CTYPE; the program must not notice.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    with open("/proc/self/environ", "rb") as file:
        pairs = (it.partition(b"=") for it in file.read().split(b"\0"))
        environment = {name: value for name, _, value in pairs if name}
    program = os.fsencode(argv[0])
    path = environment.get(b"PATH", b"/bin:/usr/bin")
    problem: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in [b""] if b"/" in program else path.split(b":"):
        found = os.path.join(folder, program)
        try:
            os.execve(found, argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            problem = error
            if error.errno == errno.ENOEXEC:  # a script that does not say what runs it
                os.execve("/bin/sh", ["sh", os.fsdecode(found), *argv[1:]], environment)
    return problem


def fail(status: int, what: str, why: OSError) -> int:
    """Say it in the form of tini, whose own lines begin with its name."""
    print(f"[FATAL forward.py ({os.getpid()})] {what} failed: {why.strerror}", file=sys.stderr)
    return status


def main(argv: list[str]) -> int:
    """Run the program of this command line; come back only if that is not possible."""
    try:
        start_forwarder()
    except OSError as error:
        return fail(NO_PORT, f"listen on 127.0.0.1:{PORT}", error)
    why = become(argv)
    return fail(MISSING if why.errno == errno.ENOENT else UNFIT, f"exec {argv[0]}", why)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

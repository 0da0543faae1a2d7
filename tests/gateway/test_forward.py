import ast
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.gateway import forward
from tests.conftest import until

# Seconds after which a test has failed.
PATIENCE = 20


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
        return port


@dataclass
class Forwarded:
    """A copy of the forwarder with a port and a socket of its own."""

    script: Path
    path: Path
    port: int

    def line(self, *program: str) -> list[str]:
        """The command line that runs a program as an entry point does."""
        return [sys.executable, "-S", "-E", str(self.script), *program]

    def run(
        self,
        *program: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end."""
        return subprocess.run(
            self.line(*program),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
        )

    def forwarders(self) -> list[int]:
        """The process ids of those that pass on."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if os.fsencode(self.script) in _read(path).split(b"\0")
        ]

    def descriptors(self) -> list[str]:
        """What the one that passes on has open."""
        (process,) = self.forwarders()
        found = []
        for link in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(link.readlink()))
        return found

    def client(self) -> socket.socket:
        """A connection to the port."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def gateway(self) -> socket.socket:
        """What a gateway listens on."""
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(PATIENCE)
        server.bind(str(self.path))
        server.listen(1024)
        return server


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.fixture
def forwarded(tmp_path: Path) -> Iterator[Forwarded]:
    """A forwarder that does not run yet; at the end none runs."""
    it = Forwarded(tmp_path / "forward.py", tmp_path / "api.sock", _free_port())
    source = Path(forward.__file__).read_text()
    for name, value in ("SOCKET", str(it.path)), ("PORT", it.port):
        source, count = re.subn(
            rf"^{name} = .*$", f"{name} = {value!r}", source, flags=re.MULTILINE
        )
        assert count == 1
    it.script.write_text(source)
    yield it
    for process in it.forwarders():
        os.kill(process, signal.SIGKILL)


@pytest.fixture
def passing(forwarded: Forwarded) -> Forwarded:
    """A forwarder that runs, of a program that has ended."""
    assert forwarded.run("true").returncode == 0
    return forwarded


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def accepted(server: socket.socket) -> socket.socket:
    """The gateway's end of the next connection."""
    gateway, _ = server.accept()
    gateway.settimeout(PATIENCE)
    return gateway


def _exchange(one: socket.socket, other: socket.socket) -> None:
    """See that each hears the other."""
    one.sendall(b"question")
    assert other.recv(100) == b"question"
    other.sendall(b"answer")
    assert one.recv(100) == b"answer"


def test_the_exit_status_is_the_programs(forwarded: Forwarded) -> None:
    """Who waits for the command gets the program's own status and output."""
    done = forwarded.run("sh", "-c", 'echo "$0 $1"; echo trouble >&2; exit 7', "a b", "-c")
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b -c\n", "trouble\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ])
def test_a_signal_ends_the_program_as_without(forwarded: Forwarded, number: int) -> None:
    """The command's process is the program's, and no signal is ignored."""
    done = forwarded.run("sh", "-c", f"kill -{number} $$; echo survived")
    assert (done.returncode, done.stdout) == (-number, "")


def test_the_program_is_left_as_it_is_without(forwarded: Forwarded, tmp_path: Path) -> None:
    """Environment, descriptors, folder, mask and session are those without the forwarder."""
    look = (
        "pwd; umask; ulimit -a; ls /proc/self/fd; grep ^Sig[BIC] /proc/self/status;"
        "cat /proc/self/environ; ps -o sid= -p $$"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONHOME": "/", "A": "=\n"}
    line = ["sh", "-c", look]
    bare = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path, env=env)
    assert forwarded.run(*line, cwd=tmp_path, env=env).stdout == bare.stdout


def test_the_forwarder_is_no_child(forwarded: Forwarded) -> None:
    """A program that waits for all its children has none, neither alive nor dead."""
    code = "import os\ntry: print(os.waitpid(-1, 0))\nexcept ChildProcessError: print('none')"
    assert forwarded.run(*_python(code)).stdout == "none\n"


def test_the_forwarder_holds_nothing_of_the_programs(forwarded: Forwarded, tmp_path: Path) -> None:
    """It outlives the program, but has no pipe, file or folder of it open, nor is in its group."""
    with (tmp_path / "file").open("w") as file:
        done = forwarded.run(
            "sh", "-c", "ps -o sid= -p $$", cwd=tmp_path, pass_fds=(file.fileno(),)
        )
    _settle(forwarded)
    (process,) = forwarded.forwarders()
    held = sorted(re.sub(r"\d+", "", it) for it in forwarded.descriptors())
    assert held == ["/dev/null"] * 3 + ["anon_inode:[eventpoll]", "socket:[]"]
    assert Path(f"/proc/{process}/cwd").readlink() == Path("/")
    assert os.getsid(process) != int(done.stdout)


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("no-such-program", 127, "No such file or directory"),
        ("/no/such/program", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/", 126, "Permission denied"),
        ("./plain", 126, "Permission denied"),
    ],
)
def test_a_program_that_cannot_run_is_named(
    forwarded: Forwarded, tmp_path: Path, name: str, status: int, reason: str
) -> None:
    """The status is that of tini and shells, and the line tells that tini found its own program."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    done = forwarded.run(name, cwd=tmp_path)
    assert done.returncode == status
    assert re.fullmatch(
        rf"\[FATAL forward\.py \(\d+\)\] exec {name} failed: {reason}\n", done.stderr
    )


def test_a_program_is_looked_for_as_without(forwarded: Forwarded, tmp_path: Path) -> None:
    """A folder's file that cannot be executed hides none later on PATH; a script needs no `#!`."""
    for name in "early", "late":
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text('echo "$0" "$@"; exit 3')
    (tmp_path / "late/tool").chmod(0o755)
    path = f"{tmp_path}/none:{tmp_path}/early:{tmp_path}/late:/bin"
    done = forwarded.run("tool", "a", "b c", env={"PATH": path})
    assert (done.returncode, done.stdout) == (3, f"{tmp_path}/late/tool a b c\n")


def test_a_port_that_is_taken_is_named(forwarded: Forwarded) -> None:
    """The program does not start where it could not reach the gateway."""
    with closing(socket.create_server(("127.0.0.1", forwarded.port))):
        done = forwarded.run("echo", "started")
    assert (done.returncode, done.stdout) == (125, "")
    assert f"listen on 127.0.0.1:{forwarded.port} failed: Address already in use" in done.stderr


def test_the_port_can_be_opened_again(passing: Forwarded) -> None:
    """Connections of an earlier forwarder on the same network keep no port taken."""
    with passing.gateway() as server, passing.client() as client:
        accepted(server).close()
        assert client.recv(100) == b""
    (process,) = passing.forwarders()
    os.kill(process, signal.SIGKILL)
    until(lambda: not passing.forwarders())
    assert passing.run("true").returncode == 0


def test_no_room_for_the_forwarder_is_named(forwarded: Forwarded) -> None:
    """The program does not start without its forwarder."""
    line = ["sh", "-c", 'ulimit -n 4; exec "$@"', "sh", *forwarded.line("echo", "started")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "failed: Resource temporarily unavailable" in done.stderr
    assert forwarded.forwarders() == []


def test_the_port_is_open_when_the_program_starts(forwarded: Forwarded) -> None:
    """The program's first act can be a request."""
    code = (
        f"import socket; socket.create_connection(('127.0.0.1', {forwarded.port})); print('open')"
    )
    assert forwarded.run(*_python(code)).stdout == "open\n"


def test_both_hear_each_other(passing: Forwarded) -> None:
    """Bytes pass both ways, several times on one connection."""
    with passing.gateway() as server, passing.client() as client, accepted(server) as gateway:
        _exchange(client, gateway)
        _exchange(gateway, client)
        _exchange(client, gateway)


def test_who_has_said_all_can_still_hear(passing: Forwarded) -> None:
    """Either end can be shut for writing alone."""
    for turn in range(2):
        passing.path.unlink(missing_ok=True)
        with passing.gateway() as server, passing.client() as client, accepted(server) as gateway:
            one, other = (client, gateway) if turn else (gateway, client)
            one.sendall(b"all")
            one.shutdown(socket.SHUT_WR)
            assert other.recv(100) == b"all"
            assert other.recv(100) == b""
            other.sendall(b"late answer")
            assert one.recv(100) == b"late answer"
            other.close()
            assert one.recv(100) == b""


def _in_thread(stack: ExitStack, act: Callable[[], object]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    stack.callback(thread.join, PATIENCE)


def _hear_all(one: socket.socket) -> bytes:
    return b"".join(iter(lambda: one.recv(1 << 20), b""))


def test_more_than_any_buffer_holds_passes_whole(passing: Forwarded) -> None:
    """Both ends send 20 MB at once, and read only afterwards what the other has sent."""
    sent = {0: os.urandom(20_000_000), 1: os.urandom(20_000_000)}
    with passing.gateway() as server, passing.client() as client, accepted(server) as gateway:
        with ExitStack() as stack:
            heard = {}
            for index, end in enumerate((client, gateway)):
                _in_thread(stack, lambda i=index, it=end: (it.sendall(sent[i]), it.shutdown(1)))  # type: ignore[misc]
            for index, end in enumerate((client, gateway)):
                _in_thread(stack, lambda i=index, it=end: heard.update({i: _hear_all(it)}))  # type: ignore[misc]
        assert heard[0] == sent[1]
        assert heard[1] == sent[0]


def test_a_slow_end_slows_the_other(passing: Forwarded) -> None:
    """The forwarder keeps little of what an end does not take."""
    with passing.gateway() as server, passing.client() as client, accepted(server) as gateway:
        client.settimeout(0)
        taken = 0
        with suppress(BlockingIOError):
            while select.select([], [client], [], 0.5)[1]:
                taken += client.send(bytes(1 << 20))
        assert 0 < taken < 20 << 20
        client.settimeout(PATIENCE)
        client.shutdown(socket.SHUT_WR)
        assert len(_hear_all(gateway)) == taken


def test_an_early_answer_arrives(passing: Forwarded) -> None:
    """A gateway that answers and closes before it has read the whole request is still heard."""
    with passing.gateway() as server, passing.client() as client:
        gateway = accepted(server)
        client.sendall(bytes(1 << 16))
        gateway.recv(1)
        gateway.sendall(b"too long")
        gateway.close()
        with suppress(ConnectionError):
            for _ in range(100):
                client.sendall(bytes(1 << 16))
        assert client.recv(100) == b"too long"


def _stale(forwarded: Forwarded) -> None:
    """A socket that nobody listens on any more."""
    forwarded.gateway().close()


@pytest.mark.parametrize("prepare", [_stale, lambda _: None], ids=["refuses", "missing"])
def test_a_client_waits_for_the_gateway(
    passing: Forwarded, prepare: Callable[[Forwarded], None]
) -> None:
    """What it said meanwhile arrives once there is a gateway."""
    prepare(passing)
    with passing.client() as client:
        client.sendall(b"early ")
        assert not select.select([client], [], [], 0.3)[0]
        passing.path.unlink(missing_ok=True)
        with passing.gateway() as server, accepted(server) as gateway:
            assert gateway.recv(100) == b"early "
            _exchange(client, gateway)


def test_a_client_that_stops_waiting_is_forgotten(passing: Forwarded) -> None:
    """A gateway that comes later never sees its request, and the forwarder keeps no descriptor."""
    _settle(passing)
    idle = len(passing.descriptors())
    with passing.client() as client:
        client.sendall(b"never mind")
        until(lambda: len(passing.descriptors()) > idle)
    until(lambda: len(passing.descriptors()) == idle)
    with passing.client() as second, passing.gateway() as server:
        second.sendall(b"second")
        with accepted(server) as gateway:
            assert gateway.recv(100) == b"second"
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.accept()


def _settle(forwarded: Forwarded) -> None:
    """See that the forwarder has begun its work, and that nothing is under way."""
    with forwarded.gateway() as server, forwarded.client() as client, accepted(server) as gateway:
        _exchange(client, gateway)
        busy = len(forwarded.descriptors())
    until(lambda: len(forwarded.descriptors()) == busy - 2)
    forwarded.path.unlink()


def test_a_gateway_that_comes_back_gets_new_connections(passing: Forwarded) -> None:
    """The end of one gateway ends its connections alone."""
    with passing.client() as client:
        with passing.gateway() as server, accepted(server) as gateway:
            _exchange(client, gateway)
        assert client.recv(100) == b""
    passing.path.unlink()
    with passing.gateway() as server, passing.client() as client, accepted(server) as gateway:
        _exchange(client, gateway)


@pytest.mark.parametrize("abruptly", [False, True])
def test_a_client_that_goes_closes_the_other_side(passing: Forwarded, *, abruptly: bool) -> None:
    """The gateway learns at once that nobody waits for its answer."""
    with passing.gateway() as server, passing.client() as client, accepted(server) as gateway:
        client.sendall(b"question")
        assert gateway.recv(100) == b"question"
        if abruptly:  # with a reset
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert gateway.recv(100) == b""


def test_a_stream_to_a_client_that_has_gone_ends(passing: Forwarded) -> None:
    """A gateway that does not read, but only sends, learns it from its sending."""
    with passing.gateway() as server, passing.client() as client:
        gateway = accepted(server)
        client.close()
        endless = bytes(100 << 20)
        with closing(gateway), pytest.raises(BrokenPipeError):
            gateway.sendall(endless)


def test_two_hundred_connections_at_once(forwarded: Forwarded) -> None:
    """All are open before the first is answered, whatever the limit of the program."""
    line = ["sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh", *forwarded.line("true")]
    subprocess.run(line, check=True)
    with forwarded.gateway() as server, ExitStack() as stack:
        clients = [stack.enter_context(forwarded.client()) for _ in range(200)]
        gateways = [stack.enter_context(accepted(server)) for _ in clients]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for gateway in gateways:
            gateway.sendall(b"re: " + gateway.recv(100))
        assert [it.recv(100) for it in clients] == [b"re: %d" % it for it in range(200)]


def test_more_connections_than_descriptors_wait(passing: Forwarded) -> None:
    """A client that there is no descriptor for waits until another has gone."""
    _settle(passing)
    (process,) = passing.forwarders()
    most = len(passing.descriptors()) + 2
    subprocess.run(["prlimit", f"--nofile={most}", "-p", str(process)], check=True)
    with passing.gateway() as server, ExitStack() as stack:
        with passing.client() as first, accepted(server) as gateway:
            second = stack.enter_context(passing.client())
            _exchange(first, gateway)
        with accepted(server) as gateway:
            _exchange(second, gateway)


def test_it_needs_no_more_than_any_python_has(passing: Forwarded) -> None:
    """It is Python 3.7's language, and imports no module that has to be compiled first."""
    ast.parse(passing.script.read_text(), feature_version=(3, 7))
    imported = [
        _imported("-c", ""),
        _imported(str(passing.script), "true"),
    ]
    modules = {name.strip() for name in imported[1] - imported[0]}
    assert modules <= {"_signal", "_socket", "errno", "posix", "resource", "select", "time"}


def _imported(*arguments: str) -> set[str]:
    line = [sys.executable, "-S", "-E", "-X", "importtime", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return {it.rpartition("|")[2] for it in done.stderr.splitlines() if it.startswith("import")}

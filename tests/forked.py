"""Runs our programs in processes that are forked from one that has imported them already.

Such a process has its own number, folder, environment, streams and exit code, as any other, but
does not spend a third of a second on starting Python and importing, and ends without taking apart
all that was imported. Tests of the start itself, and those that change what Python reads when it
starts, start a new Python instead.
"""

import atexit
import gc
import importlib
import io
import json
import locale
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

ROOT = Path(__file__).parents[1]

# How a new Python starts each program.
PROGRAMS = {
    "evalset": ("-m", "runner"),
    "oaievalset": ("-c", "from runner.oaievalset import main; main()"),
}

# Variables that Python, or a module when it is imported, reads before a program's first line.
READ_AT_START = ("PATH", "PYTHON", "LANG", "LC_", "TZ", "GIT_PYTHON", "LD_")

# Importing these changes what is imported later, or runs a program.
NOT_IMPORTED = ("runner.image.hook", "runner.__main__")

# What our programs import late, because it takes long; what only one command needs, by its name.
LATE = ("docker", "git")
LATE_FOR = {"report": "scipy.stats"}

# More bytes than a command line with its environment has.
MESSAGE = 1 << 20


class Running(NamedTuple):
    """A process that runs, and who asked for it."""

    process: int
    connection: socket.socket

    def end(self, descriptor: int) -> None:
        """Tell the exit code of a process that has ended, and forget it."""
        os.close(descriptor)
        _, status = os.waitpid(self.process, 0)
        _tell(self.connection, os.waitstatus_to_exitcode(status))
        self.connection.close()


class Request(msgspec.Struct, frozen=True):
    """What a process is to become.

    Attributes:
        line: the program's name and its arguments.
        cwd: its folder.
        env: its whole environment.
    """

    line: list[str]
    cwd: str
    env: dict[str, str]


def run_forked(
    program: str,
    arguments: Sequence[str | bytes],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float = 60,
    errors: str = "strict",
) -> "subprocess.CompletedProcess[str]":
    """Run `evalset` or `oaievalset`, and wait for its end.

    Args:
        program: name of the program.
        arguments: of its command line.
        cwd: its folder.
        env: its whole environment.
        timeout: seconds, after which it is killed.
        errors: how output that is no text is decoded.
    """
    words = [os.fsdecode(each) for each in arguments]
    if _at_start(env) != _at_start(os.environ):
        return subprocess.run(
            [sys.executable, *PROGRAMS[program], *words],
            capture_output=True,
            text=True,
            errors=errors,
            check=False,
            cwd=cwd,
            env=env,
            timeout=timeout,
        )
    line = [program, *words]
    # The standard library's JSON, because arguments may hold bytes that are no text.
    request = json.dumps({"line": line, "cwd": str(cwd), "env": dict(env)}).encode()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        ThreadPoolExecutor(2) as pool,
    ):
        connection.connect(_server())
        printed = [pool.submit(_read, end) for end in _send(connection, request)]
        process = int(connection.recv(MESSAGE))
        connection.settimeout(timeout)
        try:
            status = int(connection.recv(MESSAGE))
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired(line, timeout) from None
        stdout, stderr = (_decode(each.result(), errors) for each in printed)
    return subprocess.CompletedProcess(line, status, stdout, stderr)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


def _send(connection: socket.socket, content: bytes) -> list[int]:
    """Hand over the program's streams; gives the ends to read of its stdout and its stderr."""
    pipes = [os.pipe() for _ in range(2)]
    with Path(os.devnull).open("rb") as nothing:
        theirs = [nothing.fileno(), *(write for _, write in pipes)]
        socket.send_fds(connection, [content], theirs)
    for _, write in pipes:
        os.close(write)
    return [read for read, _ in pipes]


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def _decode(printed: bytes, errors: str) -> str:
    encoding = locale.getpreferredencoding(do_setlocale=False)
    return io.TextIOWrapper(io.BytesIO(printed), encoding=encoding, errors=errors).read()


@cache
def _server() -> str:
    """Start the process that forks, which lives as long as this one; gives its address."""
    folder = tempfile.TemporaryDirectory(prefix="evalset-forked-")
    address = f"{folder.name}/socket"
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.forked import main; main()", address],
        stdin=subprocess.PIPE,  # whose end tells it that we are gone
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    atexit.register(folder.cleanup)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    return address


# What a forked program has exited with.
_exited: list[int] = []


def main() -> None:
    """Import all that our programs import, then become one of them in each forked process."""
    import runner  # noqa: PLC0415 - the tests' side does without

    atexit.register(_leave)  # the first that is registered is the last that is called
    for module in pkgutil.walk_packages(runner.__path__, "runner."):
        if module.name not in NOT_IMPORTED:
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    request = _serve(sys.argv[1])
    if request is None:
        return
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _reopen(number, name)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    sys.argv[:] = request.line
    sys.path[0] = request.cwd
    name = "runner.cli" if request.line[0] == "evalset" else "runner.oaievalset"
    try:
        importlib.import_module(name).main()
    except SystemExit as end:
        if isinstance(end.code, int):
            _exited.append(end.code)
        raise


def _leave() -> None:
    """Exit without taking apart what was imported, which would copy most of its memory first."""
    if _exited:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exited[0])


def _reopen(number: int, name: str) -> None:
    """Make a stream anew, because Python knows of the old one whether it is a file or a pipe."""
    old = getattr(sys, name)
    new = io.TextIOWrapper(
        open(number, f"{old.mode}b", closefd=False),  # noqa: SIM115 - stays open
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
    )
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)


def _serve(address: str) -> Request | None:
    """Fork a process for each request, in which this returns it; None when the tests have ended."""
    running: dict[int, Running] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen(16)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([server.fileno(), 0, *running], [], [])
            for descriptor in running.keys() & ready:
                running.pop(descriptor).end(descriptor)
            if 0 in ready:
                return None
            if server.fileno() not in ready:
                continue
            connection, _ = server.accept()
            content, streams, _, _ = socket.recv_fds(connection, MESSAGE, 3)
            request = Request(**json.loads(content))
            for name in LATE_FOR.keys() & request.line:
                importlib.import_module(LATE_FOR[name])
            gc.freeze()  # else each process copies memory when it collects garbage
            process = os.fork()
            if not process:
                break
            for stream in streams:
                os.close(stream)
            running[os.pidfd_open(process)] = Running(process, connection)
            _tell(connection, process)
    for descriptor, each in running.items():
        os.close(descriptor)
        each.connection.close()
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return request


def _tell(connection: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # a test that lost patience
        connection.send(b"%d" % number)

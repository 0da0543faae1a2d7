"""What a run and its gateway tell each other, and the Unix sockets that they use."""

import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from runner.gateway.allowance import Limits
from runner.gateway.providers import Route
from runner.model import Problem, Spending
from runner.records.spending import plus

# Raised whenever a run and a gateway of different versions would not understand each other.
PROTOCOL = 1


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is told when it starts, keys included.

    Attributes:
        lock: path of the run's lock; while it is held, there is a run.
        routes: providers, by name.
        answers: folder of the answers files of all its evals.
        limits: those that all evals share.
        environment: further variables, such as those of proxies.
        offline: whether it only replays, and sends nothing.
        patience: seconds without a run and without a request after which it ends by itself.
    """

    protocol: int = PROTOCOL
    lock: str
    routes: dict[str, Route]
    answers: str
    limits: Limits = Limits()
    environment: dict[str, str] = {}
    offline: bool = False
    patience: float = 600.0


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that may send requests.

    Attributes:
        folder: where its socket is to be.
        answers: path of its eval's answers file.
    """

    attempt: str
    folder: str
    answers: str


class Account(msgspec.Struct, kw_only=True):
    """What an attempt has done at the gateway.

    Attributes:
        spending: what it asked of providers.
        refused: requests that were not allowed, at most 20.
        stopped: why it could not continue, such as a budget that is used up; empty if it could.
        kind: of that reason.
        waited: seconds in which all of its requests waited for their turn.
    """

    spending: Spending = Spending()
    refused: list[str] = []
    stopped: str = ""
    kind: Problem = Problem.OTHER
    waited: float = 0.0

    def __add__(self, later: "Account") -> "Account":
        """The sum with what it did at the gateway that was started after the first one had gone."""
        one, other = self.spending, later.spending
        return Account(
            spending=Spending(
                requests=one.requests + other.requests,
                replayed=one.replayed + other.replayed,
                tokens=one.tokens + other.tokens,
                saved_tokens=one.saved_tokens + other.saved_tokens,
                usd=plus(one.usd, other.usd),
                saved_usd=plus(one.saved_usd, other.saved_usd),
            ),
            refused=[*self.refused, *later.refused],
            stopped=self.stopped or later.stopped,
            kind=self.kind or later.kind,
            waited=self.waited + later.waited,
        )


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a gateway.

    Attributes:
        pid: its process.
        attempts: what the attempts have done, by id.
        problems: why no request can succeed, one line each.
        warnings: anything else that a run should know.
    """

    protocol: int = PROTOCOL
    pid: int
    attempts: dict[str, Account]
    problems: dict[Problem, str] = {}
    warnings: list[str] = []


def listen(folder: Path, name: str) -> socket.socket:
    """Listen on a Unix socket; its path may have any length."""
    with suppress(FileNotFoundError):
        (folder / name).unlink()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
    listener.setblocking(False)  # noqa: FBT003 - its only argument
    return listener


def connect(folder: Path, name: str, timeout: float | None) -> socket.socket:
    """Connect to such a socket; `timeout` is in seconds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ExitStack() as stack:
            own = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            own.settimeout(timeout)
            own.connect(f"/proc/self/fd/{descriptor}/{name}")
            stack.pop_all()  # it stays open
            return own
    finally:
        os.close(descriptor)


def ask(folder: Path, method: str, path: str, body: bytes | None, *, timeout: float) -> bytes:
    """Ask the gateway that works in a folder.

    Raises:
        OSError: there is none, or it is about to end, or does not answer.
        LookupError: it refuses.
    """
    from http.client import OK, HTTPConnection, HTTPException  # noqa: PLC0415 - it takes its time

    connection = HTTPConnection("gateway", timeout=timeout)
    try:
        connection.sock = connect(folder, "control.sock", timeout)
        connection.request(method, path, body=body)
        response = connection.getresponse()
        said = response.read()
    except HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
    if response.status != OK:
        raise LookupError(said.decode(errors="replace"))
    return said

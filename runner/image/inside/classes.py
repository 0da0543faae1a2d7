"""The classes that a registry names, imported in forked children, and what their errors mean.

What a module does when it is imported is unknown: it may hang, end the program, or use a network.
Part of the program that runs in an eval image: Python 3.9, and its standard library alone.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import inspect
import json
import os
import re
import select
import signal
import sys
import time
import traceback
from functools import partial

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Finding = dict[str, Any]

    # By class, the evals or models that use it, and the arguments that each gives it; None where
    # nobody knows them.
    Owners = dict[str, list[tuple[str, dict[str, Any] | None]]]

# What an import raises that reaches for a network which is not there.
NO_NETWORK = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED, errno.ETIMEDOUT}
)
UNREACHED = frozenset(
    {
        "APIConnectionError",
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "LocalEntryNotFoundError",
        "MaxRetryError",
        "NewConnectionError",
        "OfflineModeIsEnabled",
        "gaierror",
    }
)

# Events of an import that reaches for a network.
REACHES = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"}
)


def told(error: BaseException) -> Finding:
    """The last line of a traceback, and where it was raised."""
    lines = traceback.format_exception_only(type(error), error)
    said = " ".join(lines[-1].split()) if lines else type(error).__name__
    # a frozen module of Python's, such as `os`, has no file
    frames = [it for it in traceback.extract_tb(error.__traceback__) if it.filename[:1] == "/"]
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return {"said": said[:500], "where": where}


def import_problem(error: BaseException, reference: str) -> Finding:
    """Why the import of a class failed."""
    said = told(error)
    if isinstance(error, SystemExit):
        return {"kind": "exits", **said}
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        own = package == re.split("[.:]", reference)[0] != "evals"
        return {"kind": "own_module" if own else "module", "module": error.name, **said}
    cause: BaseException | None = error
    for _ in range(20):
        if cause is None:
            break
        names = {each.__name__ for each in type(cause).__mro__}
        if names & UNREACHED or (isinstance(cause, OSError) and cause.errno in NO_NETWORK):
            return {"kind": "network", **said}
        cause = cause.__cause__ or cause.__context__
    return {"kind": "import", **said}


class Children:
    """Imports classes in forked children; each child imports as many as it can.

    Args:
        out: a descriptor that no child may have.
        until: when all of it has to end, by `time.monotonic`.
        seconds: that one class may take.
    """

    def __init__(self, out: int, until: float, seconds: float) -> None:
        self._out = out
        self._until = until
        self._seconds = seconds

    def results(self, classes: Owners) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each class with its `problem`, which is None if it can be imported, and its `refusals`.

        The refusals say, by owner, why the class does not take the arguments that the owner gives.
        """
        ahead = list(classes)
        again: list[str] = []
        while ahead:
            done = 0
            for reference, result in self._batch(ahead, classes):
                done += 1
                # A class that was imported before it may be the reason; imported alone, it shows.
                if result.pop("suspect", False) and done > 1:
                    again.append(reference)
                else:
                    yield reference, result
            del ahead[:done]
            if not done:
                break  # there is no time left
        for reference in again:
            alone = list(self._batch([reference], classes))
            if not alone:
                ahead.append(reference)
            yield from alone
        for reference in ahead:
            yield reference, {"problem": {"kind": "unseen", "sure": False}, "refusals": {}}

    def _batch(
        self, references: Sequence[str], classes: Owners
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The results of one child, in order; the last may be that the child ended or hung."""
        if time.monotonic() >= self._until:
            return
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self._work(writer, reader, references, classes)
        os.close(writer)
        lines = Lines(reader)
        try:
            for reference in references:
                limit = min(self._until, time.monotonic() + self._seconds)
                line = lines.next(limit)
                reached = line == Reached.LINE
                if reached:
                    line = lines.next(limit)
                if line is None:
                    problem = _ended(child)
                    if reached and problem["kind"] == "hangs":
                        problem = {"kind": "network", "said": "it waits", "sure": False}
                    yield reference, {"problem": problem, "refusals": {}, "suspect": True}
                    return
                yield reference, json.loads(line)
        finally:
            os.close(reader)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)

    def _work(
        self,
        writer: int,
        reader: int,
        references: Sequence[str],
        classes: Owners,
    ) -> None:
        """In the child: import one class after the other, and never return."""
        try:
            os.close(reader)
            os.close(self._out)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            reached = Reached(writer)
            sys.addaudithook(reached.hook)
            for reference in references:
                reached.told = False
                result = _tried(reference, classes[reference])
                if reached.told and result["problem"]:
                    result["problem"]["kind"] = "network"
                os.write(writer, json.dumps(result).encode() + b"\n")
        finally:
            os._exit(0)


class Reached:
    """Notices that an import reaches for a network, even if it then works without one.

    Attributes:
        told: whether the class that is being imported did, and the parent was told.
    """

    LINE = b'"network"'

    def __init__(self, writer: int) -> None:
        self._writer = writer
        self.told = False

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Take part in Python's audit events."""
        if self.told or event not in REACHES:
            return
        # an address of another kind is a file on this host
        if event == "socket.connect" and not isinstance(args[1], tuple):
            return
        self.told = True
        os.write(self._writer, self.LINE + b"\n")


def _ended(child: int) -> Finding:
    """Why a child sends nothing more."""
    for _ in range(20):  # the pipe may close a moment before the process ends
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return {"kind": "killed", "said": str(os.WTERMSIG(status)), "sure": False}
            return {"kind": "exits", "said": f"exit status {os.WEXITSTATUS(status)}"}
        time.sleep(0.01)
    return {"kind": "hangs", "sure": False}


def _tried(reference: str, owners: list[tuple[str, dict[str, Any] | None]]) -> dict[str, Any]:
    """Import one class, and see whether it takes what each owner gives it."""
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in filter(None, name.split(".")):
            found = getattr(found, part)
    except BaseException as error:  # noqa: BLE001 - whatever a module raises
        problem = import_problem(error, reference)
        return {"problem": problem, "refusals": {}, "suspect": problem["kind"] != "module"}
    bind = _binding(found)
    refusals = {}
    for owner, given in owners:
        try:
            if bind and given is not None:
                bind(**given)
        except TypeError as error:
            refusals[owner] = " ".join(str(error).split())[:500]
    return {"problem": None, "refusals": refusals}


def _binding(made: Any) -> Callable[..., object] | None:  # noqa: ANN401 - whatever a module has
    """What raises a TypeError for arguments that a class or function does not take, if known.

    Of a class this is its `__init__`, because upstream's completion functions inherit a signature
    that is not theirs.
    """
    try:
        found: Any = made
        if not inspect.isclass(made):
            return inspect.signature(made).bind
        ways: list[Any] = [type(made).__call__, made.__new__]
        if ways == [type.__call__, object.__new__]:
            return partial(inspect.signature(found.__init__).bind, made)
    except (TypeError, ValueError):
        pass
    return None


class Lines:
    """Whole lines of a pipe, even while another process holds its other end open."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._rest = b""

    def next(self, until: float) -> bytes | None:
        """The next line; None if none comes in time, or no more can come."""
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                return None
            read = os.read(self._reader, 65536)
            if not read:
                return None
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line

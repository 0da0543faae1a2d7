"""What a progress directory knows of its hosts: who it is to them, and what was started there."""

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, read_bytes, replace
from runner.records.layout import Layout
from runner.records.lines import LineFile, read_lines

VERSION = 1


class StartedThere(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that a host was told to make.

    Attributes:
        job: key of its command.
    """

    version: int = VERSION
    attempt: str
    host: str
    job: str


class _Who(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    id: str
    epoch: int


class Ledger:
    """A file of lines: who this is, then each attempt before its host is told to start it.

    A host is believed only of attempts that are in here. The lock of the run has to be held.

    Attributes:
        id: random, by which hosts know this progress directory wherever it is.
        epoch: rises with each run.
        started: attempts that are not known to be on record, by id.
    """

    def __init__(self, layout: Layout, *, is_over: Callable[[str], bool]) -> None:
        """Read it, forget attempts that are over, and begin a new epoch."""
        self._path = layout.hosts
        who, started = _read(self._path)
        self.id = who.id if who else secrets.token_hex(8)
        self.epoch = (who.epoch if who else 0) + 1
        self.started = {each.attempt: each for each in started if not is_over(each.attempt)}
        self._rewrite()
        self._file = LineFile(self._path)

    def start(self, attempts: Iterable[StartedThere]) -> None:
        """Put down what hosts are told to start next; it is durable when this returns."""
        new = list(attempts)
        self._file.add(*(msgspec.json.encode(each).decode() for each in new))
        self.started.update((each.attempt, each) for each in new)

    def end(self, *, is_over: Callable[[str], bool]) -> None:
        """Forget attempts that are over."""
        self._file.close()
        self.started = {name: it for name, it in self.started.items() if not is_over(name)}
        self._rewrite()

    def _rewrite(self) -> None:
        lines = [_Who(id=self.id, epoch=self.epoch), *self.started.values()]
        replace(self._path, b"".join(msgspec.json.encode(each) + b"\n" for each in lines))


def hosts_left(layout: Layout) -> list[str]:
    """Hosts that may have something of an earlier run, sorted."""
    return sorted({each.host for each in _read(layout.hosts)[1]})


def id_of(layout: Layout) -> str:
    """By what hosts know a model and eval set of a progress directory; empty if none does."""
    who, _ = _read(layout.hosts)
    return who.id if who else ""


def _read(path: Path) -> tuple[_Who | None, list[StartedThere]]:
    who: list[_Who] = []
    started: list[StartedThere] = []

    def take(_: int, text: bytes) -> bool:
        try:
            who.append(msgspec.json.decode(text, type=_Who))
        except UNREADABLE:
            try:
                started.append(msgspec.json.decode(text, type=StartedThere))
            except UNREADABLE:
                return False
        return True

    read_lines(read_bytes(path), take)
    return (who[-1] if who else None), started

"""What a progress directory knows of its hosts: who it is to them, and what was started there."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, read_bytes, replace
from runner.records.layout import Layout
from runner.records.progress import LineFile, read_lines

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


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """A host was found to be away, or to be back.

    Attributes:
        away_since: UTC, RFC 3339; None once it is back.
    """

    version: int = VERSION
    host: str
    away_since: str | None


class LedgerContent(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger says, to whoever does not hold the lock of the run.

    Attributes:
        id: by which hosts know the progress directory; empty if it never used any.
        started: attempts by id, the last one the newest; some may be on record by now.
        away: since when hosts are away, by name.
    """

    id: str = ""
    started: Mapping[str, StartedThere] = {}
    away: Mapping[str, str] = {}


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
        lines = _read(self._path)
        who = [each for each in lines if isinstance(each, _Who)]
        started = [each for each in lines if isinstance(each, StartedThere)]
        self.id = who[-1].id if who else secrets.token_hex(8)
        self.epoch = (who[-1].epoch if who else 0) + 1
        self.started = {each.attempt: each for each in started if not is_over(each.attempt)}
        self._rewrite()
        self._file = LineFile(self._path)

    def keep_epoch(self, epoch: int) -> None:
        """Have a newer epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._file.add(msgspec.json.encode(_Who(id=self.id, epoch=epoch)).decode())

    def start(self, attempts: Iterable[StartedThere]) -> None:
        """Put down what hosts are told to start next; it is durable when this returns."""
        new = list(attempts)
        self._file.add(*(msgspec.json.encode(each).decode() for each in new))
        self.started.update((each.attempt, each) for each in new)

    def tell(self, absences: Iterable[Absence]) -> None:
        """Put down which hosts are away or back, for others to read."""
        self._file.add(*(msgspec.json.encode(each).decode() for each in absences))

    def end(self, *, is_over: Callable[[str], bool]) -> None:
        """Forget attempts that are over."""
        self._file.close()
        self.started = {name: it for name, it in self.started.items() if not is_over(name)}
        self._rewrite()

    def _rewrite(self) -> None:
        lines = [_Who(id=self.id, epoch=self.epoch), *self.started.values()]
        replace(self._path, b"".join(msgspec.json.encode(each) + b"\n" for each in lines))


def read_ledger(layout: Layout) -> LedgerContent:
    """What the ledger of a model and eval set says; nothing where no run has used hosts."""
    lines = _read(layout.hosts)
    who = [each for each in lines if isinstance(each, _Who)]
    absences = {each.host: each.away_since for each in lines if isinstance(each, Absence)}
    return LedgerContent(
        id=who[-1].id if who else "",
        started={each.attempt: each for each in lines if isinstance(each, StartedThere)},
        away={host: since for host, since in absences.items() if since is not None},
    )


def _read(path: Path) -> list[_Who | StartedThere | Absence]:
    found: list[_Who | StartedThere | Absence] = []
    kinds: tuple[type[_Who | StartedThere | Absence], ...] = (StartedThere, _Who, Absence)

    def take(_: int, text: bytes) -> bool:
        for kind in kinds:
            with suppress(*UNREADABLE):
                found.append(msgspec.json.decode(text, type=kind))
                return True
        return False

    read_lines(read_bytes(path), take)
    return found

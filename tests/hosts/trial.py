"""A run over two hosts that a test disturbs, and what must hold at its end."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from runner.model import Attempt, Result
from tests.conftest import Place, until
from tests.faults.chaos import Invocation
from tests.faults.events import Event, Recording
from tests.faults.invariants import check_now
from tests.hosts.lab import Lab, LabHost

EVALS = [f"wait.{number:02}" for number in range(1, 13)]

# Seconds for which a host may be away, from when that is noticed.
WAIT = 12

OPTIONS = (
    *("--hosts", "lab-a=2,lab-b=2", "--engine-wait", f"{WAIT}s", "--retries", "3"),
    *("--min-free-disk", "10m"),
)

# Notices sooner that a host says nothing, which takes a quarter of a minute else.
IMPATIENT = (
    "from runner import cli; from runner.hosts import links; "
    "links.SILENCE, links.BEAT, links.LATER = 5.0, 0.5, 1.0; cli.main()"
)


class Trial:
    """A run that is disturbed, and what the hosts' engines say of it.

    Attributes:
        place: where the run is now.
        now: its process.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        place: Place,
        evals: Sequence[str] = EVALS,
        *,
        program: str = IMPATIENT,
    ) -> None:
        self.lab = lab
        self.evals = evals
        self._program = program
        self.a, self.b = lab.hosts[:2]
        self._folder = folder
        # A journal begins with the second, in which the test before may have had its last events.
        self._since = time.time_ns()
        self._journals = {
            host.alias: Recording(place, host.address, everyone=True) for host in (self.a, self.b)
        }
        self._places = 0
        self.place = place
        self.begin(None)

    def begin(self, progress: Path | None, *, copied: bool = False) -> Invocation:
        """Start a run in a new folder, with a progress directory that is moved or copied there."""
        self._places += 1
        folder = self._folder / f"user-{self._places}"
        folder.mkdir()
        self.place = msgspec.structs.replace(
            self.place, folder=folder, program=("-c", self._program)
        )
        self.place.registry(*self.evals)
        if progress and copied:
            shutil.copytree(progress, self.place.progress)
        elif progress:
            progress.rename(self.place.progress)
        self.now = Invocation(self.place, OPTIONS, **self.lab.environ())
        return self.now

    def starts(self, host: LabHost | None = None) -> list[Event]:
        """Containers that have started, on one host or on both."""
        names = [host.alias] if host else list(self._journals)
        found = [each for name in names for each in self._ours(self._journals[name].events)]
        return sorted((e for e in found if e.action == "start"), key=lambda event: event.time)

    def _ours(self, events: list[Event]) -> list[Event]:
        return [event for event in events if event.time >= self._since]

    def running(self, host: LabHost, count: int) -> list[str]:
        """Wait until so many evals wait on a host, and no more; give their attempts."""
        until(lambda: len(host.evals(every=False)) == count, seconds=60)
        return [path.name for path in host.attempts(ready=count)]

    def let_go(self, host: LabHost, count: int) -> None:
        """Let so many evals on a host end."""
        for path in [it for it in host.attempts() if not (it / "go").exists()][:count]:
            with suppress(FileNotFoundError):  # it was ended meanwhile
                (path / "go.new").write_text("")
                (path / "go.new").rename(path / "go")

    def finish(self, host: LabHost, count: int) -> None:
        """Let so many evals on a host end, and wait until their successes are on record."""
        want = len(self.place.finished()) + count
        self.let_go(host, count)
        until(lambda: len(self.place.finished()) == want, seconds=60)

    @contextmanager
    def away(self, host: LabHost) -> Iterator[None]:
        """Continue once the run says that a host is away; then wait until it is back."""
        said = self.said().count(f"{host.alias} is away")
        back = self.said().count(f"{host.alias} is back")
        until(lambda: self.said().count(f"{host.alias} is away") > said, seconds=60)
        yield
        until(lambda: self.said().count(f"{host.alias} is back") > back, seconds=60)

    def said(self) -> str:
        """All that the run has printed."""
        return (self.place.folder / "said.txt").read_text()

    def lost(self) -> list[Attempt]:
        """The attempts on record that were lost."""
        return [each for each in self.place.records() if each.result is Result.LOST]

    @contextmanager
    def nothing_starts(self, more: int = 0) -> Iterator[None]:
        """Check that no container starts in the `with` block, or just so many."""
        before = len(self.starts())
        yield
        until(lambda: len(self.starts()) >= before + more, seconds=60)
        after = self.starts()
        assert len(after) == before + more, after[before:]

    def finish_journals(self) -> dict[str, list[Event]]:
        """All that happened, by host."""
        return {name: self._ours(journal.finish()) for name, journal in self._journals.items()}


def check(trial: Trial, journals: dict[str, list[Event]], *, may_come_back: bool = False) -> None:
    """Check what must hold at the end, whatever happened.

    Args:
        may_come_back: whether a host may come back in time to run again what was lost with it.
    """
    place = trial.place
    check_now(place)
    records = {each.id: each for each in place.records()}
    accepted = {e.eval: e for e in records.values() if e.result is Result.SUCCESS}
    events = [event for each in journals.values() for event in each]
    began = {event.attempt: event.time for event in events if event.action == "start"}
    for event in events:
        if event.action == "start":
            assert event.attempt in records, f"not on record: {event}"
            if event.eval in accepted:
                # Neither while that one runs, nor after it.
                assert event.time <= began[accepted[event.eval].id], f"starts again: {event}"
    started = Counter(event.attempt for event in events if event.action == "start")
    assert set(started.values()) == {1}, "an attempt has a second container"
    assert sorted(place.finished()) == sorted(accepted) == sorted(trial.evals)
    successes = Counter(e.eval for e in records.values() if e.result is Result.SUCCESS)
    assert set(successes.values()) == {1}
    for each in records.values():
        if "was away for more than" in each.reason and not may_come_back:
            assert accepted[each.eval].host != each.host

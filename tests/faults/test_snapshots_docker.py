import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runner.records.progress import parse_progress
from tests.amount import amount
from tests.branch.desk import BRANCH, git, make_bare
from tests.conftest import Place, until
from tests.faults.chaos import Invocation, draw
from tests.faults.conftest import numbered
from tests.faults.events import Recording, by_eval
from tests.hosts.test_resume import processes_with

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

KILL = ((signal.SIGKILL,),)


class Hub:
    """A bare repository that a run pushes to, and what its branch has called finished so far."""

    def __init__(self, folder: Path) -> None:
        self.path = make_bare(folder)
        to_it = ("--snapshot", "--snapshot-every", "1s", "--remote", str(self.path))
        self.options = ("--jobs", "3", *to_it)
        self._finished: set[str] = set()

    def check(self, _status: int = 0) -> set[str]:
        """Evals that the branch calls finished, each once, and at least those of before."""
        # A push that had begun continues without the run that began it.
        until(lambda: not processes_with(str(self.path)))
        if not git(self.path, "branch", "--list", BRANCH):
            return set()
        content = self._file("oaievalset/m.s.progress.txt")
        commands = parse_progress(content, "progress").commands
        found = {command[2] for command in commands}
        assert content.count(b"\n") == len(found)
        assert self._finished <= found, "the branch has lost a success"
        self._finished = found
        return found

    def fsck(self) -> str:
        """What Git finds wrong."""
        return git(self.path, "fsck", "--strict", "--no-dangling")

    def _file(self, path: str) -> bytes:
        line: list[str | Path] = ["git", "-C", self.path, "show", f"{BRANCH}:{path}"]
        done = subprocess.run(line, capture_output=True, check=False)
        return done.stdout


def test_a_branch_survives_runners_that_are_killed(
    decide: random.Random, places: Callable[[], Place], tmp_path: Path
) -> None:
    """It never loses a success, and nobody who resumes from it runs one again."""
    for number in range(amount(1, 15)):
        evals = numbered(16, "succeed")
        one, other, third = (place_with(places(), evals) for _ in range(3))
        hub = Hub(tmp_path / f"hub-{number}.git")
        recordings = [Recording(place) for place in (one, other, third)]
        for _ in range(decide.randint(3, 6)):
            kill(one, recordings[0], hub, decide)
        before = hub.check()
        # Another host finishes, the first one comes back, and for a third nothing is left.
        kill(other, recordings[1], hub, decide)
        finish(other, hub)
        assert hub.check() == {*evals}
        kill(one, recordings[0], hub, decide)
        finish(one, hub)
        finish(third, hub)
        heard = [recording.finish() for recording in recordings]
        for place, events in zip((one, other, third), heard, strict=True):
            assert sorted(place.finished()) == sorted(evals)
            starts = by_eval(events, "start")
            assert not [name for name, each in starts.items() if len(each) > 1]
        assert not by_eval(heard[1], "start").keys() & before
        assert heard[2] == []
        assert hub.fsck() == ""
        for place in (one, other, third):
            left = [*place.leftovers(), *(place.folder / "tmp").iterdir()]
            assert not left, f"left behind: {left}"


def place_with(place: Place, evals: Sequence[str]) -> Place:
    """A place with a registry of these evals."""
    place.registry(*evals)
    return place


def kill(place: Place, recording: Recording, hub: Hub, decide: random.Random) -> None:
    """Kill a run at some moment; the branch has lost nothing, nor have the records."""
    before = place.finished()
    Invocation(place, hub.options).disturb(draw(decide, KILL, longest=2.0), recording)
    hub.check()
    assert place.finished()[: len(before)] == before


def finish(place: Place, hub: Hub) -> None:
    """Run to the end."""
    invocation = Invocation(place, hub.options)
    assert invocation.end() == 0, invocation.said()
    hub.check()

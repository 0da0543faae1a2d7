import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from runner.model import Attempt, Result
from runner.records.progress import parse_attempts, parse_progress
from tests.conftest import Place, until
from tests.hosts.engine import SecondEngine
from tests.hosts.host import Host
from tests.hosts.remotes import REMOTES, Remote, as_file, git

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="a second Docker engine needs root"),
]

BRANCH = "evalset/m.s"
# With two at once, the first three to succeed end, and then both that wait are running.
EVALS = ("succeed.a", "wait.b", "succeed.c", "succeed.d", "wait.e", "succeed.f")
AT_ONCE = ("--jobs", "2")


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What a remote's branch holds.

    Attributes:
        records: the attempts.
        finished: evals in the progress file.
        logs: paths below `evallogs/`, with what is in them.
    """

    records: tuple[Attempt, ...]
    finished: list[str]
    logs: dict[str, str]

    @property
    def successes(self) -> Counter[str]:
        """How many attempts of each eval succeeded."""
        return Counter(each.eval for each in self.records if each.result is Result.SUCCESS)

    def ran_on(self, host: Host) -> set[str]:
        """Evals that were attempted on a host."""
        return {each.eval for each in self.records if each.host == host.name}


def pushed(remote: Remote) -> Pushed:
    """Read a remote's branch; nothing if it is not there yet."""
    if not remote.git("branch", "--list", BRANCH):
        return Pushed(records=(), finished=[], logs={})
    tip = remote.git("rev-parse", BRANCH).strip()
    paths = remote.git("ls-tree", "-r", "--name-only", tip).splitlines()
    contents = {path: remote.git("show", f"{tip}:{path}") for path in paths}
    start = "oaievalset/m.s"
    records = parse_attempts(contents.get(f"{start}.attempts.jsonl", "").encode(), "").records
    finished = parse_progress(contents.get(f"{start}.progress.txt", "").encode(), "").commands
    return Pushed(
        records=records,
        finished=[command[2] for command in finished],
        logs={path: text for path, text in contents.items() if path.startswith("evallogs/")},
    )


@pytest.fixture
def a(tmp_path: Path, cache: Path, test_image: str, host_a: SecondEngine) -> Host:
    """A host with the second engine, which can lose its power."""
    place = Place(tmp_path / "a", cache, test_image)
    place.registry(*EVALS)
    return Host(place=place, engine=host_a, name=host_a.name)


@pytest.fixture
def b(place: Place) -> Iterator[Host]:
    """A host with the machine's engine, and nothing of the other's."""
    there = msgspec.structs.replace(place, folder=place.folder / "b")
    there.registry(*EVALS)
    host = Host(place=there, engine=None, name="host-b")
    yield host
    assert not host.containers()


@pytest.fixture(params=REMOTES)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    """A remote of each kind that both hosts reach."""
    folder = tmp_path / "remote"
    folder.mkdir()
    with REMOTES[request.param](folder) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Remote]:
    """A remote that is a file."""
    folder = tmp_path / "remote"
    folder.mkdir()
    with as_file(folder) as made:
        yield made


def processes_with(text: str) -> list[str]:
    """Command lines of this machine's processes that have some text in them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().decode(errors="replace"))
    return [line for line in lines if text in line]


def lose_power(a: Host, remote: Remote) -> Pushed:
    """Run until three evals are pushed and two more run; then take the power away."""
    assert a.engine
    with a.running(*AT_ONCE, "--remote", remote.url) as run:
        until(lambda: run.poll() is not None or len(pushed(remote).finished) == 3, 40)
        assert run.poll() is None, run.communicate()
        a.engine.power_off()
    left = pushed(remote)
    assert sorted(left.finished) == ["succeed.a", "succeed.c", "succeed.d"]
    return left


def finish(b: Host, *options: str) -> str:
    """Run to the end, and let every eval go that waits; give what was said."""
    with b.running(*AT_ONCE, *options) as run:
        until(lambda: run.poll() is not None or len(b.containers()) == 2)
        b.place.until_running(2)
        b.place.let_go()
        out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    return out


def check_nothing_was_lost_or_run_twice(before: Pushed, after: Pushed, b: Host) -> None:
    """What one host had pushed is there and did not run again; each eval has one success."""
    assert after.successes == Counter(EVALS)
    assert sorted(after.finished) == sorted(EVALS)
    assert after.ran_on(b) == set(EVALS) - set(before.finished)
    assert sorted(b.place.finished()) == sorted(EVALS)
    assert {each.id for each in b.place.records()} == {each.id for each in after.records}
    assert before.logs.items() <= after.logs.items()
    for path, content in after.logs.items():
        assert (b.place.progress / path).read_text() == content
    for each in after.records:
        assert {*each.logs, each.console_log} <= {*after.logs}


def test_another_host_finishes_what_one_that_lost_its_power_began(
    a: Host, b: Host, remote: Remote
) -> None:
    """From a clone of depth 1, over each kind of remote; the clone itself is not touched."""
    a.clone(remote)
    b.clone(remote)
    before = lose_power(a, remote)
    out = finish(b, "--remote", "origin")
    assert "took over 3 evals" in out
    check_nothing_was_lost_or_run_twice(before, pushed(remote), b)
    assert git(b.work, "status", "--porcelain", "--branch") == "## main...origin/main\n"
    assert git(b.work, "rev-list", "--count", "HEAD") == "1\n"


def test_another_host_needs_no_clone(a: Host, b: Host, remote: Remote) -> None:
    """The address is enough, in a folder that is no repository, for each kind of remote."""
    a.prepare(remote)
    b.prepare(remote)
    before = lose_power(a, remote)
    finish(b, "--remote", remote.url)
    check_nothing_was_lost_or_run_twice(before, pushed(remote), b)
    assert list(b.work.iterdir()) == []


def test_a_host_that_comes_back_runs_nothing_again(a: Host, b: Host, file: Remote) -> None:
    """It takes over what the other one did, and puts its own lost attempts on record."""
    assert a.engine
    a.prepare(file)
    b.prepare(file)
    lose_power(a, file)
    finish(b, "--remote", file.url)
    a.engine.power_on()
    again = a.run("--remote", file.url)
    assert again.returncode == 0, again.stdout + again.stderr
    after = pushed(file)
    assert after.successes == Counter(EVALS)
    assert sorted(a.place.finished()) == sorted(after.finished) == sorted(EVALS)
    lost = [each.eval for each in after.records if each.result is Result.LOST]
    assert sorted(lost) == ["wait.b", "wait.e"]
    assert not a.containers()


def test_a_runner_that_is_killed_at_any_moment_loses_nothing_that_it_pushed(
    a: Host, b: Host, file: Remote
) -> None:
    """Its evals continue without it; the other host runs all that was not pushed, and no more."""
    evals = [f"sleep.0.{number}" for number in range(10, 22)]
    for host in (a, b):
        host.prepare(file)
        host.place.registry(*evals)
    with a.running(*AT_ONCE, "--remote", file.url) as run:
        until(lambda: run.poll() is not None or len(pushed(file).finished) > 2, 40)
        a.kill(run)
    # A push that had begun continues without the run that began it.
    until(lambda: not processes_with(file.url))
    before = pushed(file)
    assert 2 < len(before.finished) < len(evals)
    ended = b.run(*AT_ONCE, "--remote", file.url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    after = pushed(file)
    assert after.successes == Counter(evals)
    assert after.ran_on(b) == set(evals) - set(before.finished)
    assert sorted(b.place.finished()) == sorted(evals)

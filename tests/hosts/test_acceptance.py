"""One run over two hosts while all that can go wrong does, by journals that no runner wrote."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.amount import SOAK, amount
from tests.conftest import SEED, Place, until
from tests.hosts.lab import Lab, LabHost
from tests.hosts.trial import OPTIONS, Trial, check

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]


@pytest.fixture
def trial(hosts: Lab, place: Place, tmp_path: Path) -> Iterator[Trial]:
    """A run on two hosts that has begun."""
    made = Trial(hosts, tmp_path, place)
    yield made
    made.now.process.kill()
    made.now.process.wait(60)


def disturb_agent(trial: Trial) -> None:
    """SIGKILL it: its engine starts it again. SIGSTOP it: it is away until it continues."""
    a = trial.a
    (agent,) = a.agents()
    with trial.nothing_starts(1):
        a.signal(agent, signal.SIGKILL)
        until(lambda: a.api.inspect_container(agent)["RestartCount"] == 1)
        trial.finish(a, 1)
    trial.running(a, 2)
    with trial.nothing_starts():
        a.signal(agent, signal.SIGSTOP)
        with trial.away(a):
            a.signal(agent, signal.SIGCONT)


def cut_link_for_less(trial: Trial) -> None:
    """The host is away, and back in time."""
    with trial.nothing_starts():
        trial.lab.cut(trial.a)
        with trial.away(trial.a):
            trial.lab.join(trial.a)
    with trial.nothing_starts(1):
        trial.finish(trial.a, 1)


def kill_runner(trial: Trial) -> None:
    """It runs again from where its progress directory was moved to."""
    for host in (trial.a, trial.b):
        trial.running(host, 2)
    with trial.nothing_starts():
        trial.now.process.kill()
        trial.now.process.wait()
        trial.begin(trial.place.progress)
        until(lambda: "continues 4 evals" in trial.said(), seconds=60)
    with trial.nothing_starts(1):
        trial.finish(trial.b, 1)


def start_a_copy(trial: Trial) -> None:
    """The second runner has the hosts from now on; the first one ends and starts nothing."""
    for host in (trial.a, trial.b):
        trial.running(host, 2)
    with trial.nothing_starts():
        first, there = trial.now, trial.place.folder
        trial.begin(trial.place.progress, copied=True)
        assert first.end() == 3, first.said()
        assert (
            "a newer run, from a copy of this progress directory"
            in (there / "said.txt").read_text()
        )
        until(lambda: "continues 4 evals" in trial.said(), seconds=60)
    with trial.nothing_starts(1):
        trial.finish(trial.b, 1)


def fill_disk(trial: Trial) -> None:
    """Nothing new starts on the host until there is room again; what has ended gets here."""
    b = trial.b
    trial.running(b, 2)
    b.fill(leave=5 << 20)
    until(lambda: "lab-b: only" in trial.said())
    with trial.nothing_starts():
        trial.finish(b, 2)
    b.empty()
    trial.running(b, 2)


def cut_link_for_more(trial: Trial) -> None:
    """Its evals run elsewhere; what it has done meanwhile is refused, and what runs is ended."""
    a, b = trial.a, trial.b
    before = set(trial.running(a, 2))
    trial.lab.cut(a)
    trial.let_go(a, 1)
    until(lambda: {each.id for each in trial.lost()} == before, seconds=60)
    trial.finish(b, 2)
    again = trial.running(b, 2)
    assert {each.eval for each in trial.starts(b) if each.attempt in again} == {
        each.eval for each in trial.lost()
    }
    trial.lab.join(a)
    until(lambda: not before & {path.name for path in a.attempts()}, seconds=60)
    trial.running(a, 2)


def take_power(trial: Trial) -> None:
    """First for a while: what ran has ended, and is retried. Then for good."""
    a, b = trial.a, trial.b
    before = set(trial.running(a, 2))
    trial.lab.take_power(a)
    with trial.away(a):
        trial.lab.give_power(a)
    until(lambda: before <= {each.id for each in trial.lost()}, seconds=60)
    before = set(trial.running(a, 2))
    trial.lab.take_power(a)
    until(lambda: before <= {each.id for each in trial.lost()}, seconds=60)
    trial.finish(b, 2)
    trial.running(b, 2)
    trial.finish(b, 2)


def test_whatever_goes_wrong_each_of_twelve_evals_is_accepted_once(trial: Trial) -> None:
    """And nothing is left on any host."""
    trial.running(trial.a, 2)
    trial.running(trial.b, 2)
    disturb_agent(trial)
    cut_link_for_less(trial)
    kill_runner(trial)
    start_a_copy(trial)
    fill_disk(trial)
    cut_link_for_more(trial)
    take_power(trial)
    assert trial.now.end() == 0, trial.said()
    trial.lab.give_power(trial.a)
    until(lambda: trial.a.agents() and trial.lab.ssh(trial.a, "true").returncode == 0)
    again = trial.place.run(*OPTIONS, **trial.lab.environ())
    assert again.returncode == 0, again.stdout + again.stderr
    left = [*trial.a.left(), *trial.b.left()]
    assert not left, again.stdout + again.stderr
    check(trial, trial.finish_journals())


def test_what_a_host_did_that_came_back_too_late_is_removed_by_the_next_run(trial: Trial) -> None:
    """All is finished by then; the next run has nothing else to do."""
    before = set(trial.running(trial.a, 2))
    trial.running(trial.b, 2)
    trial.lab.cut(trial.a)
    until(lambda: before <= {each.id for each in trial.lost()}, seconds=60)
    for _ in range(6):
        trial.running(trial.b, 2)
        trial.finish(trial.b, 2)
    assert trial.now.end() == 0, trial.said()
    trial.lab.join(trial.a)
    assert trial.a.left()
    again = trial.place.run(*OPTIONS, **trial.lab.environ())
    assert not trial.a.left(), again.stdout + again.stderr
    check(trial, trial.finish_journals())


class Chance:
    """What happens to a run next, by a seed."""

    def __init__(self, trial: Trial, decide: random.Random) -> None:
        self._trial = trial
        self._decide = decide
        self.happened: Counter[str] = Counter()

    def next(self) -> None:
        """Let something happen, and wait a while."""
        agent = (self.kill_agent, self.stop_agent)
        host = (self.cut, self.take_power, self.fill_disk)
        way = self._decide.choice((*agent, *host, self.kill_runner, self.kill_runner))
        self.happened[way.__name__] += 1
        way(self._decide.choice((self._trial.a, self._trial.b)))
        self._pause(0.1, 4)

    def _pause(self, least: float, most: float) -> None:
        time.sleep(self._decide.uniform(least, most))

    def kill_agent(self, host: LabHost) -> None:
        """Its engine starts it again."""
        for agent in host.agents():
            host.signal(agent, signal.SIGKILL)

    def stop_agent(self, host: LabHost) -> None:
        """It does nothing for a while."""
        agents = host.agents()
        for agent in agents:
            host.signal(agent, signal.SIGSTOP)
        self._pause(1, 25)
        for agent in agents:
            host.signal(agent, signal.SIGCONT)

    def cut(self, host: LabHost) -> None:
        """For less or for more than a host may be away."""
        self._trial.lab.cut(host)
        self._pause(1, 30)
        self._trial.lab.join(host)

    def take_power(self, host: LabHost) -> None:
        """All that runs there ends."""
        self._trial.lab.take_power(host)
        self._pause(1, 30)
        self._trial.lab.give_power(host)

    def fill_disk(self, host: LabHost) -> None:
        """More or less."""
        host.fill(leave=self._decide.choice((0, 4096, 5 << 20)))
        self._pause(1, 8)
        host.empty()

    def kill_runner(self, _: LabHost) -> None:
        """It runs again, from elsewhere."""
        self._trial.now.process.kill()
        self._trial.now.process.wait()
        self._pause(0, 3)
        self._trial.begin(self._trial.place.progress)


@pytest.mark.skipif(not SOAK, reason="`make soak` has the time for it")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", range(amount(1, 30)))
def test_whatever_happens_when_it_likes(
    hosts: Lab, place: Place, tmp_path: Path, number: int
) -> None:
    """Twelve evals of some seconds each time, until all are done."""
    decide = random.Random(f"{os.environ[SEED]} {number}")  # noqa: S311 - hides nothing
    evals = [f"sleep.{decide.randint(1, 8)}.{index:02}" for index in range(12)]
    trial = Trial(hosts, tmp_path, place, evals)
    chance = Chance(trial, decide)
    try:
        for _ in range(12):
            until(lambda: trial.starts() or trial.now.process.poll() is not None, seconds=60)
            chance.next()
            if trial.now.process.poll() not in (None, 0):
                trial.begin(trial.place.progress)
        while trial.now.end() != 0:
            trial.begin(trial.place.progress)
    finally:
        trial.now.process.kill()
        print(dict(chance.happened), trial.said()[-3000:])
    again = trial.place.run(*OPTIONS, **trial.lab.environ())
    left = [*trial.a.left(), *trial.b.left()]
    assert not left, again.stdout + again.stderr
    check(trial, trial.finish_journals(), may_come_back=True)

"""Many hosts, whose agents and evals only pretend, over real connections."""

import os
from pathlib import Path

import pytest

from runner.errors import EnvironmentFault
from tests.conftest import SEED
from tests.hosts.farm import Decisions, alone_on_farm, run_on_farm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_no_eval_is_lost_or_accepted_twice_while_agents_are_killed(tmp_path: Path) -> None:
    """A hundred hosts, ten thousand evals; none starts a second time, because agents come back."""
    decisions = Decisions(seed=os.environ[SEED], killed=0.6)
    made = run_on_farm(tmp_path, decisions, hosts=100, slots=8, evals=10_000)
    print(made.seconds, made.cpu, made.killed, made.threads)
    assert len(made.successes) == 10_000
    assert set(made.successes.values()) == {1}
    assert made.started == 10_000
    assert made.killed >= 0.05 * 100 * made.seconds / 60
    assert made.threads < 50


def test_a_run_whose_hosts_are_all_full_ends(tmp_path: Path) -> None:
    """Once what runs has ended, with what to do."""
    full = Decisions(seed="1", free=1 << 20)
    with pytest.raises(EnvironmentFault) as caught:
        run_on_farm(tmp_path, full, hosts=2, slots=1, evals=1000)
    assert (
        caught.value.what == "every host has less than 1024 MiB (--min-free-disk) free on its disk"
    )
    assert caught.value.cure == "free some there, and run again"


def test_a_thousand_hosts_need_no_more_memory_than_ten(tmp_path: Path) -> None:
    """And no more threads."""
    taken = {}
    for hosts in (10, 1000):
        folder = tmp_path / str(hosts)
        folder.mkdir()
        taken[hosts] = alone_on_farm(folder, hosts=hosts, evals=2000)
        assert taken[hosts].finished == 2000
    print(taken)
    assert taken[1000].memory - taken[10].memory < 50 << 20
    assert max(each.threads for each in taken.values()) < 50

"""Many hosts, whose agents and evals only pretend, over real connections."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import EnvironmentFault
from tests.conftest import SEED
from tests.hosts.farm import Decisions, run_on_farm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASK = """
import json, sys
from pathlib import Path
from tests.hosts.farm import Decisions, run_on_farm
hosts = int(sys.argv[2])
short = Decisions(seed="1", seconds=(0.05, 0.15))
made = run_on_farm(Path(sys.argv[1]), short, hosts=hosts, slots=2, evals=2000)
print(json.dumps([made.memory, made.threads, len(made.successes)]))
"""


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
    memory, threads = {}, {}
    for hosts in (10, 1000):
        folder = tmp_path / str(hosts)
        folder.mkdir()
        asked = [sys.executable, "-c", ASK, str(folder), str(hosts)]
        done = subprocess.run(
            asked, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2]
        )
        memory[hosts], threads[hosts], finished = json.loads(done.stdout)
        assert finished == 2000
    print(memory, threads)
    assert memory[1000] - memory[10] < 50 << 20
    assert max(threads.values()) < 50

"""Hosts that are away when a run starts, or longer than it waits for them."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from runner.model import Result
from tests.conftest import Place, until
from tests.hosts.lab import Lab, evals, let_go, waiting
from tests.processes import started

if TYPE_CHECKING:
    import subprocess

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]

# The hosts' disks are small.
ROOM = ("--min-free-disk", "10m")


class Said:
    """A run, and what it has printed until now."""

    def __init__(self, here: Place, process: "subprocess.Popen[str]") -> None:
        self._output = here.folder / "output"
        self.process = process

    def text(self) -> str:
        """All of it."""
        return self._output.read_text()

    def until(self, words: str) -> None:
        """Wait until it has said this."""
        until(lambda: words in self.text() or self.process.poll() is not None, seconds=60)
        assert words in self.text()


@contextmanager
def running(here: Place, hosts: Lab, *options: str) -> Iterator[Said]:
    """Start a run."""
    environ = here.environ(**hosts.environ())
    line = here.line(*options, *ROOM)
    with (
        (here.folder / "output").open("w") as file,
        started(
            line, folder=here.folder, env=environ, stdout=file.fileno(), stderr=file.fileno()
        ) as process,
    ):
        run = Said(here, process)
        yield run
        print(run.text())


def kill_with_a_host_cut_off(here: Place, hosts: Lab) -> None:
    """A run with an eval on each of two hosts; then one of them is away."""
    here.registry("wait.1", "wait.2")
    with running(here, hosts, "--hosts", "lab-a=1,lab-b=1") as run:
        run.until("started  wait.2")
        waiting(hosts.hosts[0], 1)
        waiting(hosts.hosts[1], 1)
        hosts.cut(hosts.hosts[0])
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()


def test_a_host_that_is_back_in_time_for_a_new_run_keeps_its_evals(here: Place, hosts: Lab) -> None:
    """The new run waits for it, and says so."""
    a, b, _ = hosts.hosts
    kill_with_a_host_cut_off(here, hosts)
    chosen = ("--hosts", "lab-a=1,lab-b=1", "--engine-wait", "60s")
    with running(here, hosts, *chosen) as run:
        run.until(
            "lab-a cannot be reached, and may have 1 eval of an earlier run; "
            "it is tried for 1 min 00 s (--engine-wait)"
        )
        hosts.join(a)
        run.until("continues 2 evals")
        let_go([*waiting(a, 1), *waiting(b, 1)])
        assert run.process.wait(60) == 0, run.text()
    assert "lab-a is back" in run.text()
    assert Counter((each.host, each.result) for each in here.records()) == {
        ("lab-a", Result.SUCCESS): 1,
        ("lab-b", Result.SUCCESS): 1,
    }
    assert evals(a) == evals(b) == []


def test_evals_of_a_host_that_a_new_run_cannot_reach_run_elsewhere_once(
    watchful: Place, hosts: Lab
) -> None:
    """After the time for which a host may be away."""
    a, b, _ = hosts.hosts
    kill_with_a_host_cut_off(watchful, hosts)
    chosen = ("--hosts", "lab-a=1,lab-b=2", "--engine-wait", "2s")
    with running(watchful, hosts, *chosen) as run:
        let_go(waiting(b, 2))
        assert run.process.wait(60) == 0, run.text()
    assert "it is tried for 2.0 s" in run.text()
    assert "warning: left out: lab-a cannot be reached: ssh: " in run.text()
    assert Counter((each.host, each.result) for each in watchful.records()) == {
        ("lab-a", Result.LOST): 1,
        ("lab-b", Result.SUCCESS): 2,
    }
    assert sorted(watchful.finished()) == ["wait.1", "wait.2"]
    hosts.join(a)


def test_a_run_whose_hosts_are_all_away_ends_and_the_next_one_takes_in_what_they_have(
    watchful: Place, hosts: Lab
) -> None:
    """Nothing is lost by it."""
    a = hosts.hosts[0]
    watchful.registry("wait.1", "wait.2")
    chosen = ("--hosts", "lab-a=2", "--engine-wait", "1s")
    with running(watchful, hosts, *chosen) as run:
        folders = waiting(a, 2)
        hosts.cut(a)
        let_go(folders[:1])
        assert run.process.wait(60) == 3, run.text()
    assert "no host has been there for more than 1 s (--engine-wait); the next run takes over" in (
        run.text()
    )
    hosts.join(a)
    with running(watchful, hosts, *chosen) as run:
        until(lambda: len(watchful.finished()) == 1, seconds=60)
        let_go(folders[1:])
        assert run.process.wait(60) == 0, run.text()
    assert [each.result for each in watchful.records()] == [Result.SUCCESS] * 2
    assert evals(a) == []

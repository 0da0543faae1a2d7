"""What the commands besides `run` say and do of hosts, with real ones."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Place, until
from tests.hosts.lab import Lab, LabHost, let_go, waiting

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]

# The hosts' disks are small.
ROOM = ("--min-free-disk", "10m")


class Asker:
    """Asks about a run of a place, from another terminal."""

    def __init__(self, here: Place, hosts: Lab) -> None:
        self._here = here
        self._variables = hosts.environ()

    def done(self, command: str, *words: str, status: int = 0) -> str:
        """What a command prints; its exit status is as it should be."""
        ended = self._here.ask(command, *words, **self._variables)
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def status(self, *words: str) -> str:
        """What `status` says of the run."""
        return self.done("status", "m", "s", *words)

    def following(self, name: str, output: Path) -> "subprocess.Popen[bytes]":
        """Follow an eval."""
        line = self._here.line("m", "s", name, "-f", command="logs")
        with output.open("wb") as file:
            return subprocess.Popen(line, stdout=file, env=self._here.environ(**self._variables))


@pytest.fixture
def asker(here: Place, hosts: Lab) -> Asker:
    return Asker(here, hosts)


def test_the_status_knows_what_runs_on_hosts(here: Place, hosts: Lab, asker: Asker) -> None:
    """While a run is live, and after it was killed; so do `logs`, wherever an eval runs."""
    a, b, _ = hosts.hosts
    here.registry("wait.1", "wait.2")
    log = here.folder / "log"
    with here.running("--hosts", "lab-a=1,lab-b=1", *ROOM, **hosts.environ()) as run:
        at_a, at_b = waiting(a, 1), waiting(b, 1)
        until(lambda: "2 running" in asker.status())
        found = json.loads(asker.status("--json"))
        assert {row["eval"]: row["host"] for row in found["evals"]} in (
            {"wait.1": "lab-a", "wait.2": "lab-b"},
            {"wait.1": "lab-b", "wait.2": "lab-a"},
        )
        assert found["hosts"]["lab-a"] == {"away_since": None, "unknown": 1}
        (on_a,) = [row["eval"] for row in found["evals"] if row["host"] == "lab-a"]
        (on_b,) = [row["eval"] for row in found["evals"] if row["host"] == "lab-b"]
        assert asker.done("logs", "m", "s", on_b) == "waiting\n"
        with asker.following(on_a, log) as following:
            until(lambda: log.read_bytes() == b"waiting\n")
            let_go(at_a)
            assert following.wait(30) == 0
        assert log.read_bytes() == b"waiting\ntold to go\n"
        until(lambda: here.finished() == [on_a], seconds=30)
        assert asker.done("logs", "m", "s", on_a) == "waiting\ntold to go\n"
        run.send_signal(signal.SIGKILL)
        printed, _ = run.communicate()
    assert "2 to run on lab-a and lab-b" in printed
    assert f"started  {on_b} on lab-b" in printed
    assert " on lab-a)" in printed
    said = asker.status()
    assert "1 on lab-b running when it was last heard of" in said
    assert "--ask-hosts asks" in said
    assert "1 on lab-b running; " in asker.status("--ask-hosts")
    let_go(at_b)
    until(lambda: "1 on lab-b ended and not on record yet" in asker.status("--ask-hosts"))
    cleaned = asker.done("clean", "--hosts", "lab-a,lab-b")
    assert f"recorded {on_b}, which had ended" in cleaned
    assert "nothing of evalset is left on lab-a\nnothing of evalset is left on lab-b" in cleaned
    assert sorted(here.finished()) == ["wait.1", "wait.2"]
    assert {each.eval: each.host for each in here.records()} == {on_a: "lab-a", on_b: "lab-b"}
    assert asker.done("logs", "m", "s", on_b) == "waiting\ntold to go\n"
    assert [nothing_left(host) for host in (a, b)] == [[], []]
    assert "2 done" in asker.status()


def nothing_left(host: LabHost) -> list[str]:
    """What of ours is on a host."""
    folders = (host.disk / "home").glob(".evalset/**/*")
    images = [tag for it in host.api.images() for tag in it["RepoTags"] or () if "sent" in tag]
    networks = [each["Name"] for each in host.api.networks() if each["Name"] == "evalset"]
    containers = [each["Names"][0] for each in host.api.containers(all=True)]
    return [*map(str, folders), *images, *networks, *containers]

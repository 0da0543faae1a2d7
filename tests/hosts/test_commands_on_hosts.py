"""What the commands besides `run` say and do of hosts, with real ones."""

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest
from docker.errors import NotFound

from runner.engine.labels import Label
from runner.hosts.ledger import read_ledger
from runner.hosts.spool import known_as
from runner.options import DEFAULT_IMAGE
from tests.conftest import Place, engine_api, until
from tests.hosts.lab import Lab, evals, let_go, nothing_left, waiting
from tests.processes import started

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
        self.environ = here.environ(**self._variables)

    def printed(self, command: str, *words: str) -> str:
        """What a command prints, however it ends."""
        return self._here.ask(command, *words, **self._variables).stdout

    def done(self, command: str, *words: str, status: int = 0) -> str:
        """What a command prints; its exit status is as it should be."""
        ended = self._here.ask(command, *words, **self._variables)
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def status(self, *words: str) -> str:
        """What `status` says of the run."""
        return self.done("status", "m", "s", *words)

    def following(
        self, name: str, output: Path, errors: IO[bytes] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Follow an eval."""
        line = self._here.line("m", "s", name, "-f", command="logs")
        with output.open("wb") as file:
            return subprocess.Popen(line, stdout=file, stderr=errors, env=self.environ)


@pytest.fixture
def asker(here: Place, hosts: Lab, monkeypatch: pytest.MonkeyPatch) -> Asker:
    monkeypatch.setenv("PATH", hosts.environ()["PATH"])  # as ours, so that processes are forked
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
    until(lambda: "1 on lab-b ended but not recorded" in asker.status("--ask-hosts"))
    cleaned = asker.done("clean", "--hosts", "lab-a,lab-b")
    assert f"recorded {on_b}, which had ended" in cleaned
    assert "nothing of evalset is left on lab-a\nnothing of evalset is left on lab-b" in cleaned
    assert sorted(here.finished()) == ["wait.1", "wait.2"]
    assert {each.eval: each.host for each in here.records()} == {on_a: "lab-a", on_b: "lab-b"}
    assert asker.done("logs", "m", "s", on_b) == "waiting\ntold to go\n"
    assert [nothing_left(host) for host in (a, b)] == [[], []]
    assert "2 of 2 evals finished" in asker.status()


def test_a_host_that_is_away_is_shown_and_nothing_of_a_live_run_is_touched(
    here: Place, hosts: Lab, asker: Asker
) -> None:
    """A reset ends what runs on hosts, once the run is not live any more."""
    a, b, _ = hosts.hosts
    here.registry("wait.1", "wait.2")
    output = here.folder / "output"
    line = here.line("--hosts", "lab-a=1,lab-b=1", *ROOM)
    with (
        output.open("w") as file,
        started(line, folder=here.folder, env=asker.environ, stdout=file.fileno()) as run,
    ):
        waiting(a, 1)
        waiting(b, 1)
        a.lock_out()
        end_ssh(run.pid, "lab-a")
        until(lambda: "lab-a is away (" in output.read_text())
        assert "; its 1 eval runs elsewhere after 2 min 00 s (--engine-wait)" in output.read_text()
        found = until(
            lambda: re.search("lab-a is away since .* UTC; evals there: 1", asker.status())
        )
        assert found
        rows = json.loads(asker.status("--json"))["evals"]
        (on_a,) = [row["eval"] for row in rows if row["host"] == "lab-a"]
        refused = "lab-a refuses this user's keys; `ssh-copy-id lab-a` adds one"
        assert refused in asker.done("logs", "m", "s", on_a, status=3)
        assert refused in asker.status("--ask-hosts")
        held = asker.done("clean", "--hosts", "lab-a,lab-b", status=3)
        assert refused in held
        assert "another run of this model and eval set is under way" in held
        assert "lab-b is used by this progress directory" in held
        elsewhere = ("--progress-dir", str(here.folder / "other"))
        foreign = asker.done("clean", "--hosts", "lab-b", *elsewhere, status=3)
        assert "left alone: lab-b is used by another progress directory" in foreign
        a.let_in()
        until(lambda: "lab-a is back" in output.read_text())
        until(lambda: "away" not in asker.status())
        run.send_signal(signal.SIGKILL)
        run.wait()
    killed = asker.done("reset", "m", "s")
    assert "killed wait.1, which was running" in killed
    assert "killed wait.2, which was running" in killed
    assert [host.api.containers(all=True) for host in (a, b)] == [[], []]


def test_who_follows_an_eval_goes_with_it_to_another_host(
    here: Place, watchful: Place, hosts: Lab, asker: Asker
) -> None:
    """And reads to its end there."""
    here.registry("wait.1")
    output, said = here.folder / "output", here.folder / "said"
    chosen = ("--hosts", "lab-a=1,lab-b=1", "--engine-wait", "1s", *ROOM)
    with watchful.running(*chosen, **hosts.environ()) as run:
        first = until(lambda: next((it for it in hosts.hosts if evals(it)), None), seconds=60)
        other = hosts.hosts[1 - hosts.hosts.index(first)]
        waiting(first, 1)
        with said.open("wb") as errors, asker.following("wait.1", output, errors) as following:
            until(lambda: output.read_bytes() == b"waiting\n")
            hosts.cut(first)
            folders = waiting(other, 1)
            until(lambda: output.read_bytes() == b"waiting\nwaiting\n", seconds=60)
            let_go(folders)
            assert following.wait(30) == 0
        run.communicate(timeout=60)
    assert output.read_bytes() == b"waiting\nwaiting\ntold to go\n"
    moved = f"wait.1 was lost on {first.alias}, and continues on {other.alias}\n"
    assert said.read_text().endswith(moved)
    hosts.join(first)


def test_what_a_killed_run_has_left_here_is_taken_in(here: Place) -> None:
    """`local` is a host, too; this machine is asked without being told to."""
    here.registry("wait.1", "wait.2")
    spool = here.layout.hosts_spool
    with here.running("--hosts", "local=2") as run:
        until(lambda: len(said(here, "waiting")) == 2, seconds=60)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    (first, _) = sorted(spool.glob(".attempts/*"))
    let_go([first])
    until(lambda: len(said(here, "told to go")) == 1)
    status = until(lambda: _if(" 1 on local ended", here.ask("status", "m", "s").stdout))
    assert "left on hosts by a run that was killed: 1 on local running, 1 on local ended" in status
    (running,) = re.findall(r"(wait\.\d) +running", status)
    assert here.ask("logs", "m", "s", running).stdout == "waiting\n"
    cleaned = here.ask("clean").stdout.splitlines()
    (ended,) = {"wait.1", "wait.2"} - {running}
    assert cleaned == [
        f"recorded {ended}, which had ended",
        f"killed {running}, which was running",
        "containers removed: 2",
    ]
    assert here.finished() == [ended]
    assert [each.host for each in here.records()] == ["local"]
    assert not (here.progress / ".hosts").exists()


def said(here: Place, words: str) -> list[str]:
    """Containers of the agent here that have printed these words."""
    api = engine_api()
    label = f"{Label.PROGRESS}={known_as(read_ledger(here.layout).id)}"
    found = []
    for each in api.containers(all=True, filters={"label": label}):
        with contextlib.suppress(NotFound):  # an engine lists one that it is about to create
            found += [each["Id"]] * (words in api.logs(each["Id"]).decode())
    return found


def _if(words: str, text: str) -> str:
    return text if words in text else ""


def test_doctor_says_of_each_host_what_it_is_or_lacks(
    here: Place, hosts: Lab, asker: Asker
) -> None:
    """In one line; one that cannot be used is a failure."""
    _, b, c = hosts.hosts
    image = f"has {here.image}"
    said = asker.done("doctor", *ROOM, "--hosts", "lab-a=3,lab-b,local", status=0)
    (of_a,) = re.findall("ok   host lab-a: (.*)", said)
    assert re.fullmatch(rf"Docker \S+, \d+ CPUs, .* free; runs 3 evals at once; {image}", of_a)
    assert "ok   host local: " in said
    b.lock_out()
    c.fill(leave=5 << 20)
    lines = ("--hosts", "lab-a,lab-b", "--hosts", "lab-c", "--json", "--image", DEFAULT_IMAGE)
    found = {each["name"]: each for each in json.loads(asker.printed("doctor", *ROOM, *lines))}
    assert f"would get {DEFAULT_IMAGE} from here (" in found["host lab-a"]["found"]
    assert found["host lab-b"] == {
        "name": "host lab-b",
        "ok": False,
        "found": "lab-b refuses this user's keys",
        "cure": "`ssh-copy-id lab-b` adds one; `ssh lab-b` must work without a password",
        "lines": [],
    }
    assert "MiB are free on its disk" in found["host lab-c"]["found"]
    assert "--hosts names lab-a twice" in asker.done("doctor", "--hosts", "lab-a,lab-a", status=2)


def test_doctor_looks_images_up_on_a_host_where_no_engine_is_here(
    here: Place, hosts: Lab, monkeypatch: pytest.MonkeyPatch, asker: Asker
) -> None:
    """As `run` does; only `local` cannot be used."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    nowhere = "no Docker engine answers at unix:///nowhere/docker.sock"
    said = asker.done("doctor", *ROOM, "--hosts", "lab-a,lab-b")
    assert "ok   Docker engine: none here; images are looked up at lab-a\n" in said
    assert f"ok   eval image: {here.image} (" in said
    assert said.count(f"; has {here.image}\n") == 2
    said = asker.done("doctor", *ROOM, "--hosts", "local,lab-a", status=3)
    assert f"FAIL host local: {nowhere}" in said
    assert "images are looked up at lab-a" in said
    hosts.hosts[0].lock_out()
    said = asker.done("doctor", *ROOM, "--hosts", "lab-a", status=3)
    assert f"FAIL Docker engine: {nowhere}" in said
    assert "FAIL host lab-a: lab-a refuses this user's keys" in said


def end_ssh(parent: int, host: str) -> None:
    """End a process's connection to a host."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            is_child = f"\nPPid:\t{parent}\n" in (path / "status").read_text()
            if is_child and host.encode() in words:
                os.kill(int(path.name), signal.SIGKILL)

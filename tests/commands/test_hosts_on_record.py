"""What a ledger alone tells of hosts, without an engine and without asking anybody."""

import fcntl
import json
from pathlib import Path

import pytest

from runner.hosts.ledger import Absence, Ledger, StartedThere, read_ledger
from runner.model import Command
from runner.records.layout import Layout
from tests.commands.conftest import Here
from tests.commands.test_records import A, B, C, answer, record, recorded

__all__ = ["recorded"]

D = ["oaieval", "dummy", "d.dev.v0", "--registry_path", "/registry/0"]
AWAY = "2026-11-30T06:19:50.104000Z"


@pytest.fixture
def with_hosts(recorded: Here) -> Here:
    """A run with hosts was killed: `c` runs again on one, and `d` on one that was away."""
    layout = layout_of(recorded)
    old = record(D, attempt="0", result="lost", reason="x", host="lab1")
    layout.attempts.write_text(layout.attempts.read_text() + old)
    ledger = Ledger(layout, is_over=lambda _: False)
    started = [("1", "lab1", A), ("3", "lab1", C), ("4", "lab2", D), ("5", "lab2", B)]
    ledger.start(
        StartedThere(attempt=attempt, host=host, job=Command(command).key)
        for attempt, host, command in started
    )
    ledger.tell([Absence(host=host, away_since=AWAY) for host in ("lab1", "lab2")])
    ledger.tell([Absence(host="lab1", away_since=None)])
    return recorded


def layout_of(here: Here) -> Layout:
    return Layout.named(here.folder / "progress", "dummy", "mine")


def test_evals_that_were_started_on_hosts_count_as_running(with_hosts: Here) -> None:
    """What is on record or finished does not; the table has a column for hosts."""
    found = answer(with_hosts, "status", "dummy", "mine")
    rows = {row["eval"]: (row["state"], row["host"]) for row in found["evals"]}
    assert rows == {
        "a.dev.v0": ("done", "h"),
        "b.dev.v0": ("done", ""),
        "c.dev.v0": ("running", "lab1"),
        "d.dev.v0": ("running", "lab2"),
    }
    assert found["hosts"] == {
        "lab1": {"away_since": None, "unknown": 1},
        "lab2": {"away_since": AWAY, "unknown": 1},
    }
    shown = with_hosts.evalset("status", "dummy", "mine").stdout
    assert " host " in shown
    assert (
        "left on hosts by a run that was killed: 1 on lab1, 1 on lab2 running when it was last "
        "heard of; `evalset run --hosts` continues it; --ask-hosts asks what runs there now\n"
    ) in shown


def test_a_live_run_tells_which_hosts_are_away(with_hosts: Here) -> None:
    """And nothing is said of a run that was killed."""
    with layout_of(with_hosts).lock.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shown = with_hosts.evalset("status", "dummy", "mine").stdout
    assert "lab2 is away since 2026-11-30 06:19:50 UTC; evals there: 1\n" in shown
    assert "killed" not in shown
    assert "lab1 is away" not in shown


def test_a_report_says_where_evals_run(with_hosts: Here) -> None:
    """On its first page, and on that of the eval."""
    ended = with_hosts.evalset("report", "dummy", "mine", "-o", "pages")
    assert ended.returncode == 0, ended.stderr
    pages = with_hosts.folder / "pages"
    first = (pages / "index.html").read_text()
    assert "<small>on lab1</small>" in first
    assert "<small>on lab2 (away)</small>" in first
    assert any("<small>on lab1</small></h1>" in page.read_text() for page in pages.rglob("*.html"))


def test_without_hosts_nothing_is_said_of_them(recorded: Here) -> None:
    """Neither in words nor in JSON."""
    assert "hosts" not in answer(recorded, "status", "dummy", "mine")
    assert "host" not in recorded.evalset("status", "dummy", "mine").stdout


def test_a_ledger_with_lines_that_cannot_be_read_tells_the_rest(with_hosts: Here) -> None:
    """A crash may have torn the last one."""
    path = layout_of(with_hosts).hosts
    path.write_text(path.read_text() + '[dam\n{"version":1,"attempt":"6","ho')
    found = read_ledger(layout_of(with_hosts))
    assert list(found.started) == ["1", "3", "4", "5"]
    assert found.away == {"lab2": AWAY}
    assert len(found.id) == 16


def test_a_new_run_forgets_absences_and_what_its_hosts_do_not_have(with_hosts: Here) -> None:
    """It keeps its name, and its epoch is newer; a host may still have what is on record."""
    layout = layout_of(with_hosts)
    before = read_ledger(layout)
    ledger = Ledger(layout, is_over=lambda attempt: attempt == "1")
    assert list(read_ledger(layout).started) == ["1", "3", "4", "5"]
    ledger.has("lab1", {"3"})
    ledger.end(is_over=lambda attempt: attempt == "1")
    after = read_ledger(layout)
    assert (after.id, list(after.started), after.away) == (before.id, ["3", "4", "5"], {})
    assert ledger.epoch == 2


def test_logs_of_an_eval_on_a_host_that_cannot_be_reached(with_hosts: Here, tmp_path: Path) -> None:
    """One line says so; what is kept here is printed without asking anybody."""
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\necho 'ssh: Could not resolve hostname' >&2; exit 255\n")
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{with_hosts.environ['PATH']}"
    ended = with_hosts.evalset("logs", "dummy", "mine", "c", PATH=path)
    assert ended.returncode == 3
    assert "lab1 cannot be reached: ssh: Could not resolve hostname; try `ssh lab1`" in ended.stderr
    assert "all is well" in with_hosts.evalset("logs", "dummy", "mine", "a", PATH=path).stdout
    asked = with_hosts.evalset("status", "dummy", "mine", "--ask-hosts", PATH=path).stdout
    assert "lab2 cannot be reached: ssh: Could not resolve hostname; try `ssh lab2`" in asked
    cleaned = with_hosts.evalset("clean", "--json", PATH=path)
    assert cleaned.returncode == 3
    assert any("lab1 cannot be reached" in line for line in json.loads(cleaned.stdout)["held"])
    assert list(read_ledger(layout_of(with_hosts)).started) == ["1", "3", "4", "5"]
    reset = with_hosts.evalset("reset", "dummy", "mine", PATH=path)
    assert reset.returncode == 3
    assert "left alone: lab2 cannot be reached" in reset.stderr
    assert "the next run of dummy mine starts over" in reset.stdout
    assert read_ledger(layout_of(with_hosts)).started == {}


def test_hosts_may_stand_in_the_configuration_file_and_a_variable(here: Here) -> None:
    """As other options do; `clean` takes them from the command line alone."""
    here.put("evalset.toml", 'hosts = ["lab1", "lab2=0"]\n')
    for command in (["doctor"], ["run", "dummy", "mine"]):
        ended = here.evalset(*command)
        assert ended.returncode == 2
        assert "--hosts: `lab2=0` would run no eval; leave that host out" in ended.stderr
        ended = here.evalset(*command, EVALSET_HOSTS="lab1,lab2 lab1=3")
        assert "--hosts names lab1 twice; name each host once" in ended.stderr
    assert "--hosts" not in here.evalset("clean").stderr


def test_what_a_host_says_cannot_control_a_terminal(with_hosts: Here, tmp_path: Path) -> None:
    """Of all that is printed of it."""
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\nprintf 'a\\033[31mb\\n' | tee /dev/stderr; exit 1\n")
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{with_hosts.environ['PATH']}"
    for command in (
        ["logs", "dummy", "mine", "c"],
        ["status", "dummy", "mine", "--ask-hosts"],
        ["doctor", "--hosts", "lab1"],
        ["clean", "--hosts", "lab1"],
    ):
        ended = with_hosts.evalset(*command, PATH=path)
        shown = ended.stderr + ("" if command[0] == "logs" else ended.stdout)
        assert "lab1: a" in shown, command
        assert "\033" not in shown, command

"""Evals that take what there is of processes, memory, disk and time, next to one that does well."""

import msgspec
import pytest

from runner.engine.container import CONSOLE_FILE_SIZE
from runner.model import Result
from tests.conftest import Place, until
from tests.hostile.conftest import Hostile

pytestmark = pytest.mark.docker

# The program that looks at each `/tmp` soon and often.
WATCHFUL = "from runner import cli; from runner.engine import live; live.INTERVAL = 0.2; cli.main()"


def test_a_fork_bomb_stays_within_its_limit(hostile: Hostile) -> None:
    """The kernel refuses it more processes, and the eval next to it does not notice."""
    hostile.registry("fork", "victim")
    ended = hostile.run("--jobs", "2", "--pids-limit", "60")
    assert ended.returncode == 0, ended.stdout
    reports = hostile.reports()
    refused = reports["fork"]["refused"]
    assert isinstance(refused, int)
    assert refused >= 50
    assert reports["victim"] == {"accuracy": 0.25}


def test_a_memory_bomb_stays_within_its_limit(hostile: Hostile) -> None:
    """It is killed, and its record says for what and what to do; the other one is finished."""
    hostile.attack("memory", "victim", EVALSET_MEMORY="64m")
    records = {record.eval: record for record in hostile.records()}
    assert records["memory"].result is Result.FAILURE
    assert (
        "more memory than its limit of 64 MiB (raise it with --memory)" in records["memory"].reason
    )
    assert hostile.finished() == ["victim"]


def test_a_flood_of_output_does_not_fill_the_disk(hostile: Hostile) -> None:
    """Of 200 MB the last part is kept, about 20 MB at the most, and its end is there."""
    assert CONSOLE_FILE_SIZE == "10m"
    hostile.attack("flood", "victim")
    assert hostile.finished() == ["victim", "flood"]
    (record,) = [record for record in hostile.records() if record.eval == "flood"]
    assert record.console_log
    log = hostile.progress / record.console_log
    assert 2**20 < log.stat().st_size < 21 * 10**6
    assert log.read_bytes().endswith(b"y\nthe end\n")


def test_nobody_runs_on_after_its_time(hurried: Place) -> None:
    """Neither a process that ignores every signal, nor its child that left the session."""
    hurried.registry("deaf", "victim")
    ended = hurried.run("--no-exit-on-error", "--jobs", "2", "--timeout", "2s")
    assert ended.returncode == 1
    records = {record.eval: record for record in hurried.records()}
    assert records["deaf"].reason == "ran longer than its time limit of 2 s (--timeout)"
    assert records["deaf"].exit_code == 137
    assert hurried.finished() == ["victim"]
    until(lambda: not hurried.containers())


@pytest.mark.parametrize("how", ["many", "nameless"])
def test_nobody_fills_the_disk_through_tmp(hostile: Hostile, how: str) -> None:
    """Whether in many files, or in such that no folder has any more: it is killed for it."""
    watchful = msgspec.structs.replace(hostile, program=("-c", WATCHFUL))
    watchful.registry(f"fill.{how}", "victim")
    ended = watchful.run("--no-exit-on-error", "--jobs", "2", "--tmp-limit", "5m")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    records = {record.eval: record for record in watchful.records()}
    assert "in its /tmp, over its limit of 5 MiB" in records[f"fill.{how}"].reason
    assert watchful.finished() == ["victim"]


def test_no_file_grows_beyond_what_tmp_may_hold(hostile: Hostile) -> None:
    """The kernel refuses the rest of it, without anybody having to look."""
    hostile.registry("fill.one", "victim")
    ended = hostile.run("--no-exit-on-error", "--jobs", "2", "--tmp-limit", "5m")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "File too large" in ended.stdout
    assert hostile.finished() == ["victim"]

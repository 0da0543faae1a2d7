import json
import signal
import subprocess

import pytest

from runner.errors import OUT_OF_TIME
from runner.model import Command, ContainerSettings, Fault, Job, Result
from runner.records.progress import AttemptsFile
from tests.conftest import Place, impatient
from tests.outcomes import success

pytestmark = pytest.mark.docker

SETTINGS = ContainerSettings(
    image="i", memory=1, cpus=None, pids_limit=1, gpus=None, timeout=1, network="none"
)


def took(place: Place, **seconds: float) -> None:
    """Put successes on record that took so long, of evals that are to do all the same."""
    with AttemptsFile(place.layout.attempts) as file:
        for number, (name, duration) in enumerate(seconds.items()):
            eval_name = name.replace("_", ".")
            folder = ("--registry_path", "/registry/0")
            command = Command(("/bin/program", "m", eval_name, *folder))
            job = Job(command=command, argv=command, settings=SETTINGS)
            file.add_records(success(job, str(number), run="r", duration=duration))


def ran(place: Place) -> list[str]:
    """The evals that were attempted by a run of the test."""
    return [record.eval for record in place.records() if record.run != "r"]


def test_what_does_not_fit_is_left_to_the_next_run(place: Place) -> None:
    """It is not started, others are; exit 75 says continue later, and the same command does."""
    place.registry("succeed.slow", "succeed.a", "succeed.lame", "succeed.b")
    took(place, succeed_slow=3600, succeed_a=1, succeed_lame=61, succeed_b=1)
    ended = place.run("--jobs", "1", "--time-budget", "60s")
    assert ended.returncode == OUT_OF_TIME
    assert ran(place) == ["succeed.a", "succeed.b"]
    assert "2 evals do not fit in the 5" in ended.stdout
    assert "2 of 4 evals finished" in ended.stdout
    assert (
        "; 2 are left because the time budget has no room for them; the same command continues"
        in ended.stdout
    )
    again = place.run("--jobs", "1", "--time-budget", "999999d")
    assert again.returncode == 0
    assert ran(place) == ["succeed.a", "succeed.b", "succeed.slow", "succeed.lame"]
    assert "not fit" not in again.stdout
    assert sorted(place.finished()) == sorted(ran(place))


def test_the_first_success_of_a_run_tells_how_long_the_others_take(place: Place) -> None:
    """Where nothing is on record evals start, until it is known that they do not fit."""
    place.registry("sleep.5.a", "sleep.5.b")
    ended = place.run("--jobs", "1", "--time-budget", "9s")
    assert ended.returncode == OUT_OF_TIME
    assert ran(place) == ["sleep.5.a"]
    assert place.run("--jobs", "1").returncode == 0
    assert ran(place) == ["sleep.5.a", "sleep.5.b"]


def test_at_the_end_of_the_budget_running_evals_are_stopped(place: Place) -> None:
    """They get the grace, as after a signal; they are lost, not failed, and exit 75 is kept."""
    place.registry("wait.a", "deaf.b", "succeed.c")
    ended = impatient(place).run("--jobs", "2", "--time-budget", "6s", "--grace", "0.1s")
    assert ended.returncode == OUT_OF_TIME
    assert "the time budget is used up: 1 eval will not be started; running evals get 0.1 s" in (
        ended.stdout
    )
    assert "stopping at the first failure" not in ended.stdout
    assert {(each.result, each.fault, each.reason) for each in place.records()} == {
        (Result.LOST, Fault.ENVIRONMENT, "stopped because the run's time budget was used up")
    }
    assert sorted(ran(place)) == ["deaf.b", "wait.a"]
    assert "; 3 are left because the time budget has no room for them" in ended.stdout


def test_what_ends_within_the_grace_counts(place: Place) -> None:
    """With nothing left, the budget's end is of no account: exit 0."""
    place.registry("wait.a")
    with place.running("--time-budget", "6s", "--grace", "30s") as run:
        place.until_running(1)
        assert run.stdout
        while "the time budget is used up" not in run.stdout.readline():
            assert run.poll() is None
        place.let_go()
        assert run.wait(20) == 0
    assert place.finished() == ["wait.a"]


def test_a_failure_counts_for_more_than_time(place: Place) -> None:
    """The exit code of a run that somebody must look at is 1."""
    place.registry("fail.3", "succeed.slow")
    took(place, succeed_slow=3600, fail_3=1)
    ended = place.run("--jobs", "1", "--time-budget", "60s", "--no-exit-on-error")
    assert ended.returncode == 1
    assert ran(place) == ["fail.3"]


def test_a_signal_counts_for_more_than_time(place: Place) -> None:
    """SIGTERM ends a run with a budget as it does one without: 143."""
    place.registry("wait.a", "succeed.slow")
    took(place, succeed_slow=3600, wait_a=1)
    with place.running("--jobs", "2", "--time-budget", "60s", "--grace", "0.1s") as run:
        place.until_running(1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(20) == 143
    assert ran(place) == ["wait.a"]


def test_what_was_done_in_time_is_in_the_last_snapshot(place: Place) -> None:
    """So that a job on another host continues with the rest."""
    place.registry("succeed.a", "succeed.slow")
    took(place, succeed_slow=3600, succeed_a=1)
    line = ("--time-budget", "60s", "--snapshot", "--snapshot-repo", "repo.git")
    subprocess.run(["git", "init", "-q", "--bare", "repo.git"], check=True, cwd=place.folder)
    ended = place.run(*line)
    assert ended.returncode == OUT_OF_TIME, ended.stderr
    asked = place.ask("status", "m", "s", "--branch", "evalset/m.s", *line[3:], "--json")
    states = {row["eval"]: row["state"] for row in json.loads(asked.stdout)["evals"]}
    assert states["succeed.a"] == "done"
    assert states["succeed.slow"] == "to do"

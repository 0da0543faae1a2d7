import json
import signal
from datetime import datetime
from pathlib import Path

import pytest

from runner.model import Fault, Result
from tests.conftest import Place, engine_api, until
from tests.run.crashing import crash, create_left, end, end_first

pytestmark = pytest.mark.docker


def test_a_running_eval_outlives_the_runner_and_is_taken_over(place: Place) -> None:
    """The next run waits for it as if it had started it; nothing runs twice."""
    place.registry("wait.a", "succeed.later")
    (container,) = crash(place, 1, "--jobs", "1")
    (attempt,) = [path.name for path in (place.progress / ".attempts").iterdir()]
    with place.running("--jobs", "1") as run:
        until(lambda: (place.layout.lock.with_name("m.s.lock.holder.json")).exists())
        assert place.containers() == [container]
        place.let_go()
        assert run.wait(20) == 0
    assert place.finished() == ["wait.a", "succeed.later"]
    first, second = place.records()
    assert (first.id, first.result) == (attempt, Result.SUCCESS)
    assert len(first.logs) == 1
    assert first.console_log
    assert (place.progress / first.console_log).read_text() == "waiting\ntold to go\n"
    assert second.eval == "succeed.later"


def test_an_eval_that_ended_meanwhile_is_recorded_by_the_next_run(place: Place) -> None:
    """Its success counts, with its log and its own times; it is not run again."""
    place.registry("wait.a", "wait.b")
    containers = crash(place, 2, "--jobs", "2")
    for container in containers:
        end(place, container)
    assert place.run().returncode == 0
    assert sorted(place.finished()) == ["wait.a", "wait.b"]
    assert len(place.records()) == 2
    assert all(record.duration < 15 and len(record.logs) == 1 for record in place.records())


def test_a_failure_meanwhile_is_recorded_as_one(place: Place) -> None:
    """What failed while no run looked is on record with its exit code, and exits 1."""
    place.registry("wait.a")
    (container,) = crash(place, 1)
    place.let_go(5)
    engine_api().wait(container, timeout=20)
    assert place.run().returncode == 1
    (record,) = place.records()
    assert (record.result, record.exit_code) == (Result.FAILURE, 5)
    assert place.finished() == []


def test_a_crash_between_the_two_files_is_made_good(place: Place) -> None:
    """A success in the attempts file alone reaches the progress file, and is not run again."""
    place.registry("wait.a", "succeed.b")
    (container,) = crash(place, 1, "--select", "wait.a")
    end(place, container)
    spare = place.folder / "spare"
    (attempt,) = (place.progress / ".attempts").iterdir()
    (place.folder / "kept").write_bytes(b"")
    recorded = place.run("--select", "wait.a")
    assert recorded.returncode == 0
    # The state of a run that was killed after the first file: its container is still there.
    place.layout.progress.rename(spare)
    (record,) = place.records()
    again = create_left(place, "wait.a", attempt=record.id)
    assert place.run("--select", "wait.a").returncode == 0
    assert place.layout.progress.read_bytes() == spare.read_bytes()
    assert len(place.records()) == 1
    assert again not in place.containers()
    assert not attempt.exists()


def test_a_container_that_never_started_is_no_success(place: Place) -> None:
    """The engine gives one that was only created the exit code 0; it is attempted anew."""
    place.registry("succeed.a")
    place.run("--dry-run")
    create_left(place, "succeed.a", attempt="attempt-1")
    ended = place.run("--retries", "1")
    assert ended.returncode == 0
    lost, success = place.records()
    assert (lost.id, lost.result, lost.fault) == (
        "attempt-1",
        Result.LOST,
        Fault.ENVIRONMENT,
    )
    assert lost.reason == "its container never started"
    assert success.result is Result.SUCCESS


def test_containers_of_other_arguments_are_named_and_left_alone(place: Place) -> None:
    """A run takes over only its own jobs; of the others it says what to do."""
    place.registry("wait.a", "succeed.b")
    (container,) = crash(place, 1, "--select", "wait.a", "--seed", "1")
    ended = place.run("--select", "succeed.b")
    assert ended.returncode == 0
    assert (
        "an earlier run with other arguments has left containers (1); run that again"
        in ended.stdout
    )
    assert place.containers() == [container]
    end(place, container)
    assert place.run("--select", "succeed.b").returncode == 0
    assert [record.command[4] for record in place.records() if record.eval == "wait.a"] == ["1"]


def test_a_container_whose_job_is_finished_meanwhile_is_not_waited_for(place: Place) -> None:
    """Another host may have run it: what still runs here is ended, what has ended is recorded."""
    place.registry("wait.a", "wait.b")
    crash(place, 2, "--jobs", "2")
    attempt = end_first(place, "7")
    start, end = ["/bin/program", "m"], ["--registry_path", "/registry/0"]
    commands = [[*start, name, *end] for name in ("wait.a", "wait.b")]
    place.layout.progress.write_text("".join(f"{json.dumps(each)}\n" for each in commands))
    ended = place.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (record,) = place.records()
    assert (record.id, record.result, record.exit_code) == (attempt, Result.FAILURE, 7)
    assert len(place.finished()) == 2


def test_starting_over_ends_what_an_earlier_run_left(place: Place) -> None:
    """With `--no-resume` a container of before does not count any more."""
    place.registry("wait.a", "succeed.b")
    crash(place, 1, "--select", "wait.a")
    assert place.run("--no-resume", "--select", "succeed.b").returncode == 0
    assert place.containers() == []
    assert [record.eval for record in place.records()] == ["succeed.b"]


def test_an_interrupt_ends_every_eval_that_was_taken_over(place: Place) -> None:
    """Even those that wait for a worker, as more run than `--jobs` allows now."""
    place.registry("wait.a", "wait.b", "wait.c")
    crash(place, 3, "--jobs", "3")
    with place.running("--jobs", "1", "--grace", "0.1s") as run:
        assert run.stdout
        until(lambda: "started" in run.stdout.readline())  # type: ignore[union-attr]
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
    assert [record.result for record in place.records()] == [Result.LOST] * 3


def test_an_outcome_that_cannot_be_recorded_waits_for_the_next_run(place: Place) -> None:
    """Where nothing can be written its container is kept, and its success counts later."""
    place.registry("wait.a")
    with place.running() as run:
        place.until_running(1)
        make_unwritable(place.progress / "evallogs")
        place.let_go()
        assert run.wait(30) == 3
    assert place.finished() == []
    (place.progress / "evallogs").unlink()
    (attempt,) = [path.name for path in (place.progress / ".attempts").iterdir()]
    assert place.run().returncode == 0
    (record,) = place.records()
    assert (record.id, record.result) == (attempt, Result.SUCCESS)


def make_unwritable(folder: Path) -> None:
    """Put a file where the runner wants to make a folder: this stops root, too."""
    if folder.exists():
        folder.rmdir()
    folder.write_bytes(b"")


def test_status_shows_what_runs_on_after_a_crash(place: Place) -> None:
    """Nobody is told that nothing runs while a container costs money."""
    place.registry("wait.a")
    (container,) = crash(place, 1)
    assert "1 running" in place.ask("status", "m", "s").stdout
    end(place, container)
    assert place.run().returncode == 0


def test_the_time_limit_of_what_was_taken_over_counts_from_its_start(place: Place) -> None:
    """Also where it has to share one slot with others, and whatever the clock was set to."""
    place.registry("wait.a", "wait.b")
    crash(place, 2, "--jobs", "2", "--timeout", "4s")
    ended = place.run("--jobs", "1", "--timeout", "4s", "--no-exit-on-error")
    assert ended.returncode == 1
    assert {record.reason for record in place.records()} == {
        "ran longer than its time limit of 4 s (--timeout)"
    }
    assert all(4 <= record.duration < 25 for record in place.records())
    first, second = (record.ended_at for record in place.records())
    apart = datetime.fromisoformat(second) - datetime.fromisoformat(first)
    assert abs(apart.total_seconds()) < 6


def test_an_earlier_runs_attempt_is_no_retry_of_this_one(place: Place) -> None:
    """A container that never started is attempted anew without any retries."""
    place.registry("succeed.a")
    place.run("--dry-run")
    create_left(place, "succeed.a", attempt="attempt-1")
    ended = place.run("--retries", "0")
    assert ended.returncode == 0
    assert "to be retried  succeed.a  (0.0 s): its container never started" in ended.stdout
    assert "whole output" not in ended.stdout, "its log is empty"
    assert place.finished() == ["succeed.a"]


def test_a_run_that_was_killed_before_its_container_was_made_leaves_nothing(place: Place) -> None:
    """The next run removes the empty folder of its attempt."""
    place.registry("succeed.a")
    place.layout.private("killed").mkdir(parents=True)
    assert place.run().returncode == 0
    assert place.leftovers() == []


def test_status_says_what_a_killed_run_left(place: Place) -> None:
    """What continues by itself, and what has ended and waits to be recorded; no live run's."""
    place.registry("wait.a", "wait.b")
    with place.running("--jobs", "2") as run:
        place.until_running(2)
        assert "was killed" not in place.ask("status", "m", "s").stdout
        run.kill()
    end_first(place)
    *_, last = place.ask("status", "m", "s").stdout.splitlines()
    assert last == (
        "left by a run that was killed: 1 running, 1 ended but not recorded; `evalset run` "
        "continues it"
    )
    place.let_go()
    assert place.run().returncode == 0
    assert "was killed" not in place.ask("status", "m", "s").stdout

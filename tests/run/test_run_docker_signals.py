import os
import signal
import time
from pathlib import Path

import pytest

from runner.model import Fault, Result
from tests.conftest import Place, impatient, until
from tests.run.talk import said_until

pytestmark = pytest.mark.docker


def test_an_eval_that_ends_within_the_grace_counts(place: Place) -> None:
    """After Ctrl-C nothing starts, a running eval may end and is recorded, exit 130."""
    place.registry("wait.a", "succeed.later")
    with place.running("--jobs", "1") as run:
        place.until_running(1)
        run.send_signal(signal.SIGINT)
        said_until(run, "SIGINT: 1 eval will not be started; running evals get 10 s to end")
        place.let_go()
        assert run.wait(20) == 130
    assert place.finished() == ["wait.a"]
    assert len(place.records()) == 1


def test_nothing_is_said_of_evals_that_are_not_left(place: Place) -> None:
    """Where all run already, a signal keeps none from starting."""
    place.registry("wait.a")
    with place.running() as run:
        place.until_running(1)
        run.send_signal(signal.SIGINT)
        said_until(run, "SIGINT: running evals get 10 s to end")
        place.let_go()
        assert run.wait(20) == 130


def test_an_eval_that_outlasts_the_grace_is_stopped(place: Place) -> None:
    """It is lost, not failed; the reason is on record, and the next run attempts it again."""
    place.registry("wait.a", "succeed.later")
    with place.running("--jobs", "1", "--grace", "1s") as run:
        place.until_running(1)
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
    (record,) = place.records()
    assert (record.result, record.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert record.reason == "stopped because the run got SIGINT"
    assert place.leftovers() == []
    with place.running("--jobs", "1") as run:
        place.until_running(1)
        place.let_go()
        assert run.wait(20) == 0
    assert place.finished() == ["wait.a", "succeed.later"]


def test_a_second_interrupt_kills_at_once(place: Place) -> None:
    """An eval that ignores signals does not outlive it; the kill is on record, exit 130."""
    place.registry("deaf.a", "deaf.b")
    with place.running("--jobs", "2") as run:
        place.until_running(2)
        run.send_signal(signal.SIGINT)
        said_until(run, "SIGINT")
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        assert time.monotonic() - began < 5
    assert {record.reason for record in place.records()} == {
        "killed because the run got a second SIGINT"
    }
    assert len(place.records()) == 2


def test_termination_exits_with_143(place: Place) -> None:
    """SIGTERM stops as SIGINT does; an eval that ignores it is killed after a while."""
    place.registry("wait.a", "deaf.b", "succeed.later")
    with impatient(place).running("--jobs", "2", "--grace", "0.1s") as run:
        place.until_running(2)
        run.send_signal(signal.SIGTERM)
        assert run.wait(20) == 143
    assert {record.eval: record.exit_code for record in place.records()} == {
        "wait.a": 143,
        "deaf.b": 137,
    }
    assert {record.result for record in place.records()} == {Result.LOST}
    assert place.finished() == []


def test_an_interrupt_ends_a_pause_before_a_retry(place: Place) -> None:
    """A run that waits to retry ends at once."""
    place.registry("succeed.a")
    with place.running("--network", "container:gone", "--retries", "9") as run:
        until(lambda: len(place.records()) >= 2)
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        assert time.monotonic() - began < 1.5


def test_an_interrupt_before_anything_ran_writes_nothing(place: Place) -> None:
    """Ctrl-C while the plan is made: one line, exit 130."""
    place.registry("succeed.a")
    fifo = place.folder / "env"
    os.mkfifo(fifo)
    with place.running("--env-file", "env") as run:
        writer = until(lambda: _open_for(fifo))
        # Python acts on a signal before or in a read, not between the two.
        until(lambda: _sleeps(run.pid))
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        assert run.stdout
        assert run.stdout.read().strip() == "Interrupted."
    os.close(writer)
    assert not place.progress.exists()


def _open_for(fifo: Path) -> int:
    """Open a FIFO for writing; 0 while nobody reads it."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0


def _sleeps(pid: int) -> bool:
    """Whether the main thread of a process waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_closed_terminal_ends_a_run_as_termination_does(place: Place) -> None:
    """SIGHUP: nothing new starts, what runs is stopped and recorded, exit 129."""
    place.registry("wait.a", "succeed.later")
    with place.running("--jobs", "1", "--grace", "0.1s") as run:
        place.until_running(1)
        run.send_signal(signal.SIGHUP)
        assert run.wait(20) == 129
    (record,) = place.records()
    assert record.reason == "stopped because the run got SIGHUP"
    assert place.leftovers() == []


def test_nohup_keeps_a_run_going(place: Place) -> None:
    """A user who lets the run ignore the signal wants it to continue."""
    place.registry("wait.a")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with place.running() as run:
            place.until_running(1)
            run.send_signal(signal.SIGHUP)
            place.let_go()
            assert run.wait(20) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert place.finished() == ["wait.a"]

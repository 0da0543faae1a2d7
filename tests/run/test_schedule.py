import time

import pytest

from runner.model import Task
from runner.run import schedule
from runner.run.schedule import Broken, Ended, Event, Idle, Started
from tests.conftest import until
from tests.run.pretended import Pretended, ends, job, made, until_idle


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FIRST_PAUSE", 0.001)


def test_jobs_start_in_order() -> None:
    """One at a time, each is told of when it starts and when it ends."""
    names = ["s1", "s2", "f3", "s4"]
    events = until_idle(made(Pretended(), names))
    assert [each.job.eval for each in events if isinstance(each, Started)] == names
    assert sorted(ends(events)) == sorted((name, False) for name in names)


def test_the_next_starts_while_a_success_is_recorded() -> None:
    """Recording and removing what ended well keeps no slot."""
    found = made(Pretended(), ["s1", "s2"])
    events: list[Event] = []
    while sum(isinstance(each, Started) for each in events) < 2:
        events.append(found.events.get(timeout=10))
    assert not any(event.recorded.done() for event in events if isinstance(event, Ended))
    for event in events:
        if isinstance(event, Ended):
            event.recorded.set_result(None)
    until_idle(found)


def test_none_starts_while_a_failure_is_recorded() -> None:
    """A failure keeps its slot until it is on record, because it may end the run."""
    attempts = Pretended()
    found = made(attempts, ["f1", "s2"])
    started, ended = (found.events.get(timeout=10) for _ in range(2))
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    time.sleep(0.2)
    assert attempts.made == ["f1"]
    assert found.stop_starting() == 1
    ended.recorded.set_result(None)
    until_idle(found)
    assert attempts.made == ["f1"]


def test_nothing_to_do_is_idle_at_once() -> None:
    """A schedule without jobs says so."""
    assert until_idle(made(Pretended(), [])) == [Idle()]


def test_only_the_environments_faults_are_tried_again() -> None:
    """A lost attempt is made again until it succeeds; a failed one is not."""
    attempts = Pretended()
    events = until_idle(made(attempts, ["lls", "f"], retries=3))
    assert ends(events) == [("lls", True), ("lls", True), ("lls", False), ("f", False)]


def test_retries_have_an_end() -> None:
    """The last attempt says that there will be none after it."""
    events = until_idle(made(Pretended(), ["l"], retries=2))
    assert ends(events) == [("l", True), ("l", True), ("l", False)]


def test_each_attempt_has_an_id_of_its_own() -> None:
    """Records of retries can be told apart."""
    events = until_idle(made(Pretended(), ["l"], retries=2))
    ids = [event.outcome.id for event in events if isinstance(event, Ended)]
    assert len(set(ids)) == 3


def test_stopping_says_how_many_are_left_out() -> None:
    """What runs continues and is told of; nothing new starts."""
    attempts = Pretended()
    found = made(attempts, ["h", "s1", "s2"])
    assert isinstance(found.events.get(timeout=10), Started)
    assert found.stop_starting() == 2
    attempts.go.set()
    assert ends(until_idle(found)) == [("h", False)]
    assert attempts.made == ["h"]


def test_a_stopped_schedule_does_not_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause before a retry ends when nothing more may start."""
    monkeypatch.setattr(schedule, "FIRST_PAUSE", 60)
    found = made(Pretended(), ["l"], retries=5)

    def record(ended: Ended) -> None:
        ended.recorded.set_result(None)
        found.stop_starting()

    assert ends(until_idle(found, record)) == [("l", True)]


def test_a_retry_that_waits_while_nothing_starts_is_left_out() -> None:
    """It counts with what has not started, once."""
    attempts = Pretended()
    found = made(attempts, ["l"], retries=1)
    started, ended = (found.events.get(timeout=10) for _ in range(2))
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    found.pause(paused=True)
    ended.recorded.set_result(None)
    until(lambda: found.taken == 0)
    assert [found.stop_starting(), found.stop_starting()] == [1, 1]
    until_idle(found)
    assert attempts.made == ["l"]


def test_no_retry_is_announced_while_stopping() -> None:
    """An attempt that is lost because the run is being stopped is the last one of its job."""
    attempts = Pretended()
    found = made(attempts, ["hl"], retries=5)
    found.stop_starting()
    attempts.go.set()
    assert all(not again for _, again in ends(until_idle(found)))


def test_an_exception_in_a_worker_is_handed_to_the_reader() -> None:
    """It stops what has not started; the others' outcomes still come, and Idle is the last."""
    attempts = Pretended()
    found = made(attempts, ["h", "x", "s1", "s2"], at_once=2)
    events: list[Event] = []
    while not any(isinstance(event, Broken) for event in events):
        events.append(found.events.get(timeout=10))
    attempts.go.set()
    events += until_idle(found)
    (broken,) = [event for event in events if isinstance(event, Broken)]
    assert isinstance(broken.error, ValueError)
    assert ends(events) == [("h", False)]
    assert "s1" not in attempts.made


def test_an_outcome_that_was_not_recorded_keeps_its_container() -> None:
    """The worker's attempt sees the error, and the reader learns of it as an end of the run."""
    attempts = Pretended()
    full = OSError("disk full")
    events = until_idle(
        made(attempts, ["f1", "s2"]), lambda ended: ended.recorded.set_exception(full)
    )
    assert [event.error for event in events if isinstance(event, Broken)] == [full]
    assert attempts.kept == ["0"]
    assert attempts.made == ["f1"]


def test_what_an_earlier_run_left_comes_first() -> None:
    """Its containers run already, whatever else is to be done."""
    attempts = Pretended()
    left = [Task(job=job("s9"), attempt="a", container="c")]
    events = until_idle(made(attempts, ["s1"], left=left))
    assert attempts.made == ["taken_over s9", "s1"]
    assert events[0] == Started(left[0].job, "a", "c")


def test_what_an_earlier_run_left_is_seen_to_while_stopping() -> None:
    """Its containers run, started or not by this run: each outcome is waited for."""
    attempts = Pretended()
    left = [Task(job=job(f"h{number}"), attempt=str(number), container="c") for number in "12"]
    found = made(attempts, ["s1"], left=left)
    assert found.stop_starting() == 1
    attempts.go.set()
    assert sorted(ends(until_idle(found))) == [("h1", False), ("h2", False)]


def test_a_lost_one_that_an_earlier_run_left_is_attempted_anew() -> None:
    """The retry of a container that was taken over is a new one for the same job."""
    attempts = Pretended()
    left = [Task(job=job("ls"), attempt="a", container="c")]
    until_idle(made(attempts, [], left=left, retries=2))
    assert attempts.made == ["taken_over ls", "ls", "ls"]


def test_many_workers_do_each_job_once() -> None:
    """With more workers than CPUs nothing is done twice or skipped, and one Idle comes."""
    attempts = Pretended()
    names = [f"s{number}" for number in range(200)]
    events = until_idle(made(attempts, names, at_once=16))
    assert sorted(attempts.made) == sorted(names)
    assert sum(isinstance(event, Idle) for event in events) == 1

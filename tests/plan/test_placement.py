from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import pytest

from runner.model import Result
from runner.plan.actions import (
    Action,
    AllAway,
    AllIdle,
    Earlier,
    EndAttempt,
    OutOfTime,
    Record,
    RecordLost,
    SettleAttempt,
    StartAttempt,
)
from runner.plan.fleet import Fleet
from runner.plan.placement import Placement

SUCCESS, FAILURE, LOST = Result


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"new{next(numbers)}"


def placement(hosts: Mapping[str, int], *jobs: str, **settings: Any) -> Placement:  # noqa: ANN401 - passed on
    """A placement whose attempts are new1, new2 ..., and whose hosts may be away for 60 s."""
    usual = {"at_once": 100, "retries": 2, "pause": lambda retry: 10.0 * 2**retry}
    fleet = Fleet(hosts, settings.pop("host_wait", 60))
    return Placement(fleet, jobs, new_id=ids(), **{**usual, **settings})


def there(place: Placement, *names: str, now: float = 0) -> list[Action]:
    """Let hosts connect that have nothing."""
    return [action for name in names for action in place.connected(name, {}, {}, now=now)]


def lost(actions: list[Action]) -> list[str]:
    """The attempts that are to be recorded as lost."""
    return [action.attempt for action in actions if isinstance(action, RecordLost)]


def lose(place: Placement, name: str, attempt: str, *, now: float) -> list[Action]:
    """Let a host be away for too long at `now`, and its attempt be recorded as lost."""
    place.disconnected(name, now=now - 60)
    assert attempt in lost(place.tick(now=now))
    return place.recorded(attempt, now=now)


def starts(actions: list[Action]) -> list[StartAttempt]:
    """What is to be started."""
    return [action for action in actions if isinstance(action, StartAttempt)]


def test_jobs_start_in_order_and_hosts_take_turns() -> None:
    """Each host gets its share, and at most its slots."""
    place = placement({"a": 1, "b": 2}, "j1", "j2", "j3", "j4")
    place.pause_all(paused=True, now=0)
    there(place, "a", "b")
    assert place.pause_all(paused=False, now=0) == [
        StartAttempt("a", "j1", "new1"),
        StartAttempt("b", "j2", "new2"),
        StartAttempt("b", "j3", "new3"),
    ]
    assert (place.taken, place.waiting) == (3, 1)


def test_no_more_run_than_may_run_at_once() -> None:
    """However many slots the hosts have."""
    place = placement({"a": 8, "b": 8}, "j1", "j2", "j3", at_once=2)
    assert len(starts(there(place, "a", "b"))) == 2


def test_a_success_gives_its_slot_back_at_once_and_is_recorded() -> None:
    """Then the host may delete it; the run is idle when nothing is left to do."""
    place = placement({"a": 1}, "j1", "j2")
    there(place, "a")
    assert place.started("a", "new1", now=1) == []
    assert place.ended("a", "new1", SUCCESS, now=2) == [
        Record("new1", again=False),
        StartAttempt("a", "j2", "new2"),
    ]
    assert place.recorded("new1", now=3) == [SettleAttempt("a", "new1")]
    assert place.ended("a", "new2", SUCCESS, now=4) == [Record("new2", again=False)]
    assert place.recorded("new2", now=5) == [SettleAttempt("a", "new2"), AllIdle()]
    assert place.tick(now=6) == []


def test_a_success_whose_start_was_not_heard_is_lost_with_the_hosts_disk() -> None:
    """A success shows that the attempt ran, so that its job needs a new attempt and a slot."""
    place = placement({"a": 1}, "j1", "j2")
    there(place, "a")
    assert place.succeeded("a", "new1", now=1) == [StartAttempt("a", "j2", "new2")]
    place.disconnected("a", now=2)
    assert lost(there(place, "a", now=3)) == ["new1"]
    assert place.taken == 1


def test_what_is_started_once_more_keeps_its_slot_until_it_is_on_record() -> None:
    """Late messages about its first start do not free the slot in which it runs again."""
    place = placement({"a": 1}, "j1", "j2")
    there(place, "a")
    place.disconnected("a", now=1)
    assert there(place, "a", now=2) == [StartAttempt("a", "j1", "new1")]
    assert place.started("a", "new1", now=3) == []
    assert place.succeeded("a", "new1", now=3) == []
    assert place.ended("a", "new1", SUCCESS, now=4) == [Record("new1", again=False)]
    assert place.taken == 1
    assert place.recorded("new1", now=5) == [
        SettleAttempt("a", "new1"),
        StartAttempt("a", "j2", "new2"),
    ]


def test_a_container_that_ended_well_gives_its_slot_back_before_its_files_are_here() -> None:
    """Once, and only the host that has it; what it left may say that it failed all the same."""
    place = placement({"a": 1, "b": 0}, "j1", "j2", "j3")
    there(place, "a", "b")
    assert place.succeeded("b", "new1", now=1) == []
    assert place.succeeded("a", "new1", now=1) == [StartAttempt("a", "j2", "new2")]
    assert place.succeeded("a", "new1", now=1) == []
    assert place.ended("a", "new1", FAILURE, now=2) == [Record("new1", again=False)]
    assert place.recorded("new1", now=3) == [SettleAttempt("a", "new1")]
    assert place.succeeded("a", "new1", now=3) == []
    assert place.taken == 1


def test_a_failure_keeps_its_slot_until_it_is_recorded() -> None:
    """It may end the run; and the job does not run again."""
    place = placement({"a": 1}, "j1", "j2")
    there(place, "a")
    assert place.ended("a", "new1", FAILURE, now=1) == [Record("new1", again=False)]
    assert place.recorded("new1", now=2) == [
        SettleAttempt("a", "new1"),
        StartAttempt("a", "j2", "new2"),
    ]


def test_a_fault_of_the_environment_is_tried_again_after_a_pause_elsewhere() -> None:
    """As often as there are retries."""
    place = placement({"a": 1, "b": 1}, "j1", retries=1)
    there(place, "a", "b")
    assert place.ended("a", "new1", LOST, now=1) == [Record("new1", again=True)]
    assert place.recorded("new1", now=2) == [SettleAttempt("a", "new1")]
    assert place.deadline() == 12
    assert place.tick(now=11) == []
    assert place.tick(now=12) == [StartAttempt("b", "j1", "new2")]
    assert place.ended("b", "new2", LOST, now=13) == [Record("new2", again=False)]
    assert place.recorded("new2", now=14) == [SettleAttempt("b", "new2"), AllIdle()]


def test_a_retry_goes_to_the_same_host_if_there_is_no_other() -> None:
    """A run on one host has retries, too."""
    place = placement({"a": 1}, "j1")
    there(place, "a")
    place.ended("a", "new1", LOST, now=1)
    place.recorded("new1", now=2)
    assert place.tick(now=12) == [StartAttempt("a", "j1", "new2")]


def test_a_host_that_is_back_in_time_continues_with_what_it_has() -> None:
    """Nothing starts a second time."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a", "b")
    place.started("a", "new1", now=1)
    assert place.disconnected("a", now=10) == []
    assert place.deadline() == 70
    assert place.tick(now=69) == []
    assert place.connected("a", {"new1": "j1"}, {}, now=69.5) == []
    assert place.deadline() is None
    assert place.tick(now=100) == []
    assert place.ended("a", "new1", SUCCESS, now=101) == [Record("new1", again=False)]


def test_what_a_lost_host_had_starts_elsewhere_once_that_is_on_record() -> None:
    """It uses up no retry."""
    place = placement({"a": 1, "b": 1}, "j1", retries=0)
    there(place, "a", "b")
    place.disconnected("a", now=10)
    assert place.tick(now=70) == [RecordLost("a", "j1", "new1", again=True)]
    assert place.tick(now=71) == []
    assert place.recorded("new1", now=72) == [StartAttempt("b", "j1", "new2")]


@pytest.mark.parametrize("outcome", list(Result))
def test_a_late_outcome_of_what_was_recorded_as_lost_is_refused(outcome: Result) -> None:
    """Whether it comes before or after the host has told what it has."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a", "b")
    place.disconnected("a", now=10)
    place.tick(now=70)
    assert place.ended("a", "new1", outcome, now=71) == []
    place.recorded("new1", now=72)
    held = {"new1": ("j1", outcome is SUCCESS)}
    assert place.connected("a", {}, held, now=80) == [SettleAttempt("a", "new1")]
    assert place.ended("a", "new1", outcome, now=81) == [SettleAttempt("a", "new1")]
    assert place.ended("b", "new2", SUCCESS, now=82) == [Record("new2", again=False)]
    assert place.recorded("new2", now=83) == [SettleAttempt("b", "new2"), AllIdle()]


def test_what_still_runs_on_a_host_that_is_back_late_is_ended() -> None:
    """Before anything new starts there."""
    place = placement({"a": 1, "b": 1}, "j1", "j2", "j3")
    there(place, "a", "b")
    lose(place, "a", "new1", now=70)
    assert place.connected("a", {"new1": "j1"}, {}, now=80) == [
        EndAttempt("a", "new1"),
        StartAttempt("a", "j1", "new3"),
    ]
    assert place.started("a", "new1", now=81) == [EndAttempt("a", "new1")]


def test_what_was_started_but_never_arrived_is_started_again_under_the_same_id() -> None:
    """The message was lost with the link."""
    place = placement({"a": 1}, "j1")
    there(place, "a")
    place.disconnected("a", now=1)
    assert place.connected("a", {}, {}, now=2) == [StartAttempt("a", "j1", "new1")]
    assert place.taken == 1


def test_what_never_arrived_waits_again_if_nothing_may_start() -> None:
    """Its host is short of disk meanwhile."""
    place = placement({"a": 1, "b": 1}, "j1", "j2", "j3")
    there(place, "a", "b")
    place.disconnected("a", now=1)
    place.short_of_disk("a", short=True, now=2)
    assert place.connected("a", {}, {}, now=2) == []
    assert place.waiting == 2
    assert place.ended("b", "new2", SUCCESS, now=3)[1:] == [StartAttempt("b", "j1", "new3")]


def test_what_vanished_from_its_host_is_lost_and_uses_up_a_retry() -> None:
    """So that a host that forgets everything cannot make a run endless."""
    place = placement({"a": 1}, "j1", retries=1)
    there(place, "a")
    place.started("a", "new1", now=1)
    assert there(place, "a", now=2) == [RecordLost("a", "j1", "new1", again=True)]
    assert place.recorded("new1", now=3) == [
        EndAttempt("a", "new1"),
        StartAttempt("a", "j1", "new2"),
    ]
    place.started("a", "new2", now=4)
    assert there(place, "a", now=5) == [RecordLost("a", "j1", "new2", again=False)]
    assert place.recorded("new2", now=6) == [EndAttempt("a", "new2"), AllIdle()]


def test_an_earlier_runs_attempts_are_taken_over() -> None:
    """They take a slot, even if none is free; of what is held, only the outcome is awaited."""
    place = placement({"a": 1}, "j1", "j2", "j3", "j4")
    actions = place.connected("a", {"old1": "j1", "old2": "j3"}, {"old3": ("j2", True)}, now=0)
    assert actions == []
    assert (place.taken, place.waiting) == (2, 1)
    assert place.ended("a", "old3", SUCCESS, now=1) == [Record("old3", again=False)]
    place.ended("a", "old1", SUCCESS, now=2)
    assert starts(place.ended("a", "old2", SUCCESS, now=3)) == [StartAttempt("a", "j4", "new1")]


def test_an_earlier_runs_attempt_uses_up_no_retry() -> None:
    """As on one host."""
    place = placement({"a": 1}, "j1", retries=0)
    place.connected("a", {}, {"old1": ("j1", False)}, now=0)
    assert place.ended("a", "old1", LOST, now=1) == [Record("old1", again=True)]
    place.recorded("old1", now=2)
    assert place.tick(now=12) == [StartAttempt("a", "j1", "new1")]
    assert place.ended("a", "new1", LOST, now=13) == [Record("new1", again=False)]


def test_what_is_finished_or_on_record_is_not_taken_over() -> None:
    """A rest of a finished job gets on record first; what is on record is ended or settled."""
    place = placement({"a": 4}, earlier=Earlier(done=["j2", "j3"]))
    assert place.connected("a", {"old3": "j2"}, {"old4": ("j3", True)}, now=0) == [
        RecordLost("a", "j2", "old3", again=False),
        RecordLost("a", "j3", "old4", again=False),
    ]
    assert place.recorded("old3", now=1) == [EndAttempt("a", "old3")]
    assert place.recorded("old4", now=1) == [EndAttempt("a", "old4"), AllIdle()]
    again = place.connected("a", {"old3": "j2"}, {"old4": ("j3", True)}, now=2)
    assert again == [EndAttempt("a", "old3"), SettleAttempt("a", "old4")]


def test_a_job_of_another_plan_is_left_alone_while_it_runs() -> None:
    """Its outcome is recorded if it has ended; the run does not wait for it."""
    place = placement({"a": 2, "b": 2})
    assert place.connected("a", {"old1": "other"}, {"old2": ("another", True)}, now=0) == []
    assert place.ended("a", "old2", SUCCESS, now=1) == [Record("old2", again=False)]
    assert place.recorded("old2", now=2) == [SettleAttempt("a", "old2"), AllIdle()]
    place.disconnected("a", now=3)
    assert lost(place.tick(now=99)) == []


def test_a_job_that_runs_twice_continues_where_it_began_first() -> None:
    """Another host did not tell in time that it has it."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a")
    place.started("a", "new1", now=1)
    actions = place.connected("b", {"old1": "j1"}, {}, now=2)
    assert actions == [RecordLost("a", "j1", "new1", again=True)]
    assert place.recorded("new1", now=3) == [EndAttempt("a", "new1")]
    assert place.ended("b", "old1", SUCCESS, now=4) == [Record("old1", again=False)]


def test_of_two_earlier_attempts_the_first_continues() -> None:
    """Ids begin with the time."""
    place = placement({"a": 1, "b": 1}, "j1")
    place.connected("a", {"260102": "j1"}, {}, now=0)
    assert lost(place.connected("b", {"260101": "j1"}, {}, now=0)) == ["260102"]


def test_a_success_that_is_held_elsewhere_is_accepted_and_the_other_ended() -> None:
    """Nothing is ended before the success is on record, because its host may go away."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a")
    assert place.connected("b", {}, {"old1": ("j1", True)}, now=1) == []
    assert place.ended("b", "old1", SUCCESS, now=2) == [Record("old1", again=False)]
    assert place.recorded("old1", now=3) == [
        SettleAttempt("b", "old1"),
        RecordLost("a", "j1", "new1", again=False),
    ]
    assert place.recorded("new1", now=4) == [EndAttempt("a", "new1"), AllIdle()]


def test_a_failure_does_not_end_a_job_that_still_runs_elsewhere() -> None:
    """It is recorded, and the job is retried."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a")
    place.connected("b", {}, {"old1": ("j1", False)}, now=1)
    assert place.ended("b", "old1", FAILURE, now=2) == [Record("old1", again=True)]
    assert place.recorded("old1", now=3) == [SettleAttempt("b", "old1")]
    assert place.ended("a", "new1", SUCCESS, now=4) == [Record("new1", again=False)]


@pytest.mark.parametrize("recorded", [True, False])
def test_of_two_successes_at_the_same_time_one_is_accepted(*, recorded: bool) -> None:
    """The second waits for whether the first gets on record."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a")
    place.connected("b", {}, {"old1": ("j1", True)}, now=1)
    assert place.ended("b", "old1", SUCCESS, now=2) == [Record("old1", again=False)]
    assert place.ended("a", "new1", SUCCESS, now=2) == []
    if recorded:
        assert lost(place.recorded("old1", now=3)) == ["new1"]
    else:
        assert place.not_recorded("old1", now=3) == [Record("new1", again=False)]


def test_a_second_attempt_that_waits_is_accepted_if_the_first_has_failed() -> None:
    """One failure, then the success."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a")
    place.connected("b", {}, {"old1": ("j1", False)}, now=1)
    place.ended("b", "old1", FAILURE, now=2)
    assert place.ended("a", "new1", SUCCESS, now=2) == []
    assert place.recorded("old1", now=3) == [
        SettleAttempt("b", "old1"),
        Record("new1", again=False),
    ]


def test_doubled_and_strange_messages_change_nothing() -> None:
    """Nobody may tell of another host's attempts."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a", "b")
    for _ in range(2):
        assert place.started("a", "new1", now=1) == []
        assert place.started("b", "new1", now=1) == []
        assert place.started("b", "never", now=1) == []
        assert place.ended("b", "new1", SUCCESS, now=1) == []
        assert place.ended("b", "never", SUCCESS, now=1) == []
        assert place.recorded("new1", now=1) == []
        assert place.connected("nobody", {"x": "j1"}, {}, now=1) == []
        assert place.connected("b", {"new1": "j1"}, {}, now=1) == [EndAttempt("b", "new1")]
    assert place.ended("a", "new1", SUCCESS, now=2) == [Record("new1", again=False)]
    assert place.ended("a", "new1", FAILURE, now=2) == []
    assert place.started("a", "new1", now=2) == []
    assert place.connected("a", {"new1": "j1"}, {}, now=2) == []
    assert place.recorded("new1", now=3) == [SettleAttempt("a", "new1"), AllIdle()]
    assert place.recorded("new1", now=3) == []


def test_what_cannot_be_recorded_stays_on_its_host_and_ends_the_run() -> None:
    """The next run accepts it."""
    place = placement({"a": 1}, "j1", "j2")
    there(place, "a")
    place.ended("a", "new1", FAILURE, now=1)
    assert place.not_recorded("new1", now=2) == [AllIdle()]
    assert place.connected("a", {}, {"new1": ("j1", False)}, now=3) == []


def test_a_host_that_is_short_of_disk_gets_nothing_new() -> None:
    """The others continue."""
    place = placement({"a": 1, "b": 1}, "j1", "j2")
    place.short_of_disk("a", short=True, now=0)
    assert starts(there(place, "a", "b")) == [StartAttempt("b", "j1", "new1")]
    assert place.short_of_disk("a", short=False, now=1) == [StartAttempt("a", "j2", "new2")]


def test_a_removed_host_is_never_used_again() -> None:
    """What it had starts elsewhere at once, because waiting for it would help nobody."""
    place = placement({"a": 1, "b": 1}, "j1")
    there(place, "a", "b")
    assert place.remove("a", now=1) == [RecordLost("a", "j1", "new1", again=True)]
    assert place.recorded("new1", now=2) == [StartAttempt("b", "j1", "new2")]
    assert there(place, "a", now=3) == []
    assert place.remove("a", now=4) == []


def test_the_run_ends_if_all_hosts_are_away_for_too_long() -> None:
    """What the last ones have is left to the next run; nothing more starts, even if one is back."""
    place = placement({"a": 1, "b": 1}, "j1", "j2", "j3")
    there(place, "a", "b")
    place.disconnected("a", now=10)
    place.disconnected("b", now=20)
    assert place.tick(now=70) == [RecordLost("a", "j1", "new1", again=True)]
    assert place.recorded("new1", now=71) == []
    assert place.tick(now=80) == [AllAway(20), AllIdle()]
    assert there(place, "a", now=81) == []
    assert place.connected("b", {"new2": "j2"}, {}, now=82) == []
    assert place.ended("b", "new2", SUCCESS, now=83) == [Record("new2", again=False)]
    assert place.recorded("new2", now=84) == [SettleAttempt("b", "new2")]


def test_hosts_that_never_connect_are_away_from_the_start() -> None:
    """By the first time that is told."""
    place = placement({"a": 1}, "j1")
    assert place.deadline() == 0
    place.tick(now=5)
    assert place.deadline() == 65
    assert place.tick(now=65) == [AllAway(5), AllIdle()]


def test_nothing_starts_after_a_stop_and_what_runs_comes_to_its_end() -> None:
    """Retries are not made, either."""
    place = placement({"a": 2}, "j1", "j2", "j3")
    there(place, "a")
    assert place.waiting == 1
    assert place.stop_starting(now=1) == []
    assert place.ended("a", "new1", LOST, now=2) == [Record("new1", again=False)]
    assert place.recorded("new1", now=3) == [SettleAttempt("a", "new1")]
    assert place.ended("a", "new2", LOST, now=4) == [Record("new2", again=False)]
    assert place.recorded("new2", now=5) == [SettleAttempt("a", "new2"), AllIdle()]


def test_what_an_earlier_run_started_is_lost_if_its_host_does_not_come_back() -> None:
    """The other jobs need not wait for that; a host without a name in this run is lost at once."""
    started = {"old1": ("b", "j1"), "old2": ("z", "j2"), "old4": ("b", "j5")}
    place = placement({"a": 1, "b": 1}, "j1", "j2", "j3", earlier=Earlier(started=started))
    assert there(place, "a") == [
        RecordLost("z", "j2", "old2", again=True),
        StartAttempt("a", "j3", "new1"),
    ]
    assert place.recorded("old2", now=1) == []
    assert place.tick(now=60) == [RecordLost("b", "j1", "old1", again=True)]


def test_what_an_earlier_run_started_and_nobody_has_uses_up_no_retry() -> None:
    """Its host may never have heard of it."""
    place = placement({"a": 1}, "j1", retries=0, earlier=Earlier(started={"old1": ("a", "j1")}))
    assert there(place, "a") == [RecordLost("a", "j1", "old1", again=True)]
    assert place.recorded("old1", now=1) == [
        EndAttempt("a", "old1"),
        StartAttempt("a", "j1", "new1"),
    ]


def test_what_an_earlier_run_started_continues_if_its_host_comes_back() -> None:
    """Like any attempt on a host that was away."""
    earlier = Earlier(started={"old1": ("a", "j1")})
    place = placement({"a": 1}, "j1", earlier=earlier)
    assert place.connected("a", {"old1": "j1"}, {}, now=1) == []
    assert place.ended("a", "old1", SUCCESS, now=2) == [Record("old1", again=False)]


def test_a_job_that_does_not_fit_lets_later_ones_go_first() -> None:
    """Once nothing fits, the rest is left."""
    left = {"j1": 5, "j2": 50, "j3": 500}
    time = 10
    place = placement({"a": 1}, "j3", "j2", "j1", fits=lambda job: left[job] <= time)
    assert starts(there(place, "a")) == [StartAttempt("a", "j1", "new1")]
    assert place.ended("a", "new1", SUCCESS, now=1) == [Record("new1", again=False), OutOfTime(2)]
    assert place.recorded("new1", now=2) == [SettleAttempt("a", "new1"), AllIdle()]

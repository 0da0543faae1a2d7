"""What people are told of hosts that go away and come back."""

import io

import pytest

from runner.model import Result
from runner.report.display import (
    HostsAway,
    HostsBack,
    PlainConsole,
    away_line,
    ended_lines,
    named_hosts,
)
from runner.run.host_news import TOLD_AFTER, Absences
from tests.outcomes import failure, job, success

EVALS = {"a": 3, "b": 0, "c": 2}


@pytest.fixture
def absences() -> Absences:
    return Absences(60)


def told(absences: Absences, now: float, hosts: int = 9) -> list[HostsAway | HostsBack]:
    return list(absences.news(EVALS.__getitem__, hosts=hosts, stopping=False, now=now))


def test_a_link_that_is_back_at_once_is_not_told_of(absences: Absences) -> None:
    """Nobody needs to know."""
    absences.leave("a", "x", now=5)
    assert told(absences, 5) == []
    absences.come("a")
    assert absences.deadline() is None
    assert told(absences, 100) == []


def test_an_absence_is_told_once_however_often_the_link_is_tried(absences: Absences) -> None:
    """The first reason counts."""
    absences.leave("a", "no route", now=5)
    absences.leave("a", "refused", now=5.5)
    assert absences.deadline() == 5 + TOLD_AFTER
    (news,) = told(absences, 6)
    assert news == HostsAway(
        hosts=("a",), why="no route", evals=3, wait=60, until=65, all_away=False
    )
    absences.leave("a", "refused", now=7)
    assert absences.deadline() is None
    assert told(absences, 100) == []


def test_hosts_that_go_and_come_together_are_told_of_together(absences: Absences) -> None:
    """A switch that fails is one event; that no host is left is said."""
    absences.leave("c", "x", now=5)
    absences.leave("a", "y", now=5.5)
    (news,) = told(absences, 6, hosts=2)
    assert isinstance(news, HostsAway)
    assert (news.hosts, news.evals, news.all_away) == (("a", "c"), 5, True)
    absences.come("c")
    absences.come("a")
    assert absences.deadline() == 0
    assert told(absences, 8) == [HostsBack(hosts=("a", "c"))]
    assert absences.deadline() is None


def test_a_host_that_goes_again_before_its_return_is_told_stays_away(absences: Absences) -> None:
    """People know already."""
    absences.leave("a", "x", now=5)
    assert told(absences, 6)
    absences.come("a")
    absences.leave("a", "x", now=6.5)
    assert told(absences, 100) == []
    assert list(absences.told) == ["a"]


def test_a_host_that_is_given_up_is_not_told_of_again(absences: Absences) -> None:
    """Neither as one that is away nor as one that is back."""
    absences.leave("a", "x", now=5)
    absences.forget("a")
    assert told(absences, 100) == []
    absences.leave("b", "x", now=5)
    assert told(absences, 100)
    absences.forget("b")
    absences.come("b")
    assert told(absences, 200) == []


@pytest.mark.parametrize(
    ("hosts", "evals", "all_away", "line"),
    [
        (
            "b",
            3,
            False,
            "b is away (x); its 3 evals run elsewhere after 1 min 00 s (--engine-wait)",
        ),
        ("b", 0, False, "b is away (x); no eval runs there"),
        (
            "bc",
            1,
            False,
            "b and c are away (x); their 1 eval runs elsewhere after 1 min 00 s (--engine-wait)",
        ),
        (
            "b",
            3,
            True,
            "b is away (x); no host is left, and the run ends after 1 min 00 s (--engine-wait)",
        ),
    ],
)
def test_a_line_says_what_follows(hosts: str, evals: int, all_away: bool, line: str) -> None:  # noqa: FBT001 - a parameter
    """That is what people want to know."""
    absent = HostsAway(
        hosts=tuple(hosts), why="x.", evals=evals, wait=60, until=0, all_away=all_away
    )
    assert away_line(absent) == line


@pytest.mark.parametrize(("evals", "words"), [(1, "1 eval counts"), (2, "2 evals count")])
def test_a_run_that_stops_says_that_nothing_runs_elsewhere(
    absences: Absences, evals: int, words: str
) -> None:
    """The evals of a host that stays away are lost, then."""
    absences.leave("a", "x", now=5)
    (absent,) = absences.news(lambda _: evals, hosts=2, stopping=True, now=6)
    assert isinstance(absent, HostsAway)
    assert away_line(absent) == (
        f"a is away (x); its {words} as lost after 1 min 00 s (--engine-wait)"
    )


def test_how_long_an_eval_ran_that_was_lost_with_its_host_is_not_made_up() -> None:
    """Nobody knows it."""
    away = failure(job("e"), result=Result.LOST, host="b", duration=0.0, reason="it was away")
    line, _ = ended_lines(away, again=False, tail=(), tells_host=True)
    assert line == "lost  e  (on b): it was away"


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (1, "h0"),
        (2, "h0 and h1"),
        (5, "h0, h1, h2, h3 and h4"),
        (1000, "h0, h1, h2, h3 and 996 more hosts"),
    ],
)
def test_of_many_hosts_a_few_are_named(count: int, named: str) -> None:
    """The line stays one."""
    assert named_hosts([f"h{number}" for number in range(count)]) == named


def test_plain_lines_name_hosts_where_there_are_several() -> None:
    """With one host, or without --hosts, nothing changes."""
    for hosts, suffix in ((("a", "b"), " on b"), (("b",), ""), ((), "")):
        out = io.StringIO()
        console = PlainConsole(out)
        console.begin(total=1, done=0, todo=1, hosts=hosts)
        console.started(job("e"), "b")
        console.ended(success(job("e"), host="b"), again=False, tail=())
        lines = out.getvalue().splitlines()
        assert lines[1:] == [f"started  e{suffix}", f"finished e  (4.2 s{suffix})  [1/1]"]
        assert ("on a and b" in lines[0]) == bool(suffix)

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Command
from runner.plan.cutoffs import TimeBudget, UsualTimes

times = st.lists(st.floats(0, 1e6), min_size=1)


def command(name: str, *arguments: str) -> Command:
    return Command(("oaieval", "m", name, *arguments))


def budget(seconds: float, *past: tuple[Command, float], now: float = 0) -> TimeBudget:
    """A budget that began at 100 by a clock that shows `now` seconds more."""
    return TimeBudget(seconds=seconds, began=100, clock=lambda: 100 + now, past=past)


def test_the_usual_time_is_the_median_of_an_evals_own_successes() -> None:
    """One that was slow for once does not count for more."""
    usual = UsualTimes([(command("a"), 10), (command("a"), 900), (command("a"), 20)])
    assert usual.of(command("a")) == 20
    usual.add(command("a"), 30)
    assert usual.of(command("a")) == 25


def test_an_eval_without_a_success_has_the_sets_usual_time() -> None:
    """That of all successes, until it has one of its own."""
    usual = UsualTimes([(command("a"), 10), (command("b"), 60), (command("b"), 80)])
    assert usual.of(command("c")) == 60
    assert usual.of(command("a")) == 10


def test_other_arguments_make_another_time() -> None:
    """With `--max_samples 1` an eval is no measure of one without."""
    usual = UsualTimes([(command("a", "--max_samples", "1"), 1)])
    assert usual.of(command("a")) is None
    assert usual.of(command("b", "--max_samples", "1")) == 1
    assert usual.of(command("b", "--seed", "1")) is None


def test_without_any_success_nothing_tells_the_usual_time() -> None:
    """Neither of a command nor of text that is none."""
    assert UsualTimes().of(command("a")) is None
    assert UsualTimes([(Command(("a line",)), 3)]).of(Command()) is None


@given(times)
def test_the_median_is_that_of_the_standard_library(found: list[float]) -> None:
    """In whatever order the times come."""
    usual = UsualTimes((command("a"), seconds) for seconds in found)
    assert usual.of(command("b")) == pytest.approx(statistics.median(found))


def test_an_eval_fits_as_long_as_its_usual_time_is_left() -> None:
    """To the second, and not after it."""
    past = (command("a"), 60.0)
    assert budget(100, past, now=40).fits(command("a"))
    assert not budget(100, past, now=40.1).fits(command("a"))


def test_an_eval_of_unknown_length_fits_while_anything_is_left() -> None:
    """Else a first run would start nothing."""
    assert budget(100, now=99.9).fits(command("a"))
    assert not budget(100, now=100).fits(command("a"))
    assert not budget(100, now=101).fits(command("a"))


def test_what_a_run_learns_counts_at_once() -> None:
    """The first success tells how long the others may take."""
    found = budget(100, now=50)
    assert found.fits(command("b"))
    found.spent(command("a"), 51)
    assert not found.fits(command("b"))
    assert found.remaining == 50


@given(past=times, seconds=st.floats(1, 1e6), now=st.floats(0, 2e6), later=st.floats(0, 1e6))
def test_what_does_not_fit_does_not_fit_later(
    past: list[float], seconds: float, now: float, later: float
) -> None:
    """Time only passes, unless something new is learned."""
    known = [(command("a"), each) for each in past]
    if not budget(seconds, *known, now=now).fits(command("a")):
        assert not budget(seconds, *known, now=now + later).fits(command("a"))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.comparison import MCNEMAR, WILCOXON, Paired, Verdicts, adjusted, compare, mcnemar

VERDICTS = st.dictionaries(st.text(max_size=2), st.booleans(), max_size=30)


def right(**correct: bool) -> Verdicts:
    return Verdicts(correct=correct, scores={})


def test_samples_that_both_have_are_paired() -> None:
    """By their ids, whatever their order."""
    before = right(a=True, b=False, c=True, d=True)
    after = right(d=True, c=False, b=True, e=False)
    found = compare(before, after, test=True)
    assert (found.samples, found.gained, found.lost) == (3, ("b",), ("c",))
    assert (found.test, found.p) == (MCNEMAR, 1.0)


def test_one_sided_flips_are_more_than_chance() -> None:
    """Ten of ten: twice a half to the tenth."""
    before = right(**{f"s{n}": False for n in range(10)})
    after = right(**{f"s{n}": True for n in range(10)})
    assert compare(before, after, test=True).p == pytest.approx(2 * 0.5**10)


def test_the_exact_test_agrees_with_the_usual_one_for_many() -> None:
    """McNemar's own form, with the correction for continuity, is near it there."""
    from scipy.stats import chi2  # noqa: PLC0415 - slow to import

    near = chi2.sf((abs(560 - 440) - 1) ** 2 / 1000, 1)
    assert mcnemar(560, 440) == pytest.approx(near, rel=0.02)


def test_scores_are_paired_where_nothing_is_right_or_wrong() -> None:
    """By the ranks of their differences: six of one sign give 2 in 64."""
    before = Verdicts(correct={}, scores={f"s{n}": 0.1 * n for n in range(6)})
    after = Verdicts(correct={}, scores={f"s{n}": 0.11 * n + 0.1 for n in range(6)})
    found = compare(before, after, test=True)
    assert (found.test, found.samples) == (WILCOXON, 6)
    assert found.p == pytest.approx(2 / 64)
    assert compare(before, before, test=True).p == 1.0


def test_nothing_in_common_is_not_tested() -> None:
    """Nor is anything said of it."""
    assert compare(right(a=True), right(b=True), test=True) == Paired()


def test_without_scipy_flips_are_counted_alone() -> None:
    """The test is what it is for."""
    found = compare(right(a=True), right(a=False), test=False)
    assert (found.lost, found.p) == (("a",), None)


def test_many_tests_are_adjusted_for() -> None:
    """The greatest stays, the others grow with their number."""
    assert adjusted([0.01, 0.04, 0.5]) == pytest.approx([0.03, 0.06, 0.5])
    assert adjusted([]) == []


@given(VERDICTS, VERDICTS)
def test_the_order_of_two_runs_only_turns_the_flips_round(
    one: dict[str, bool], other: dict[str, bool]
) -> None:
    """The p-value is the same."""
    ahead = compare(right(**one), right(**other), test=True)
    back = compare(right(**other), right(**one), test=True)
    assert set(ahead.gained) == set(back.lost)
    assert ahead.samples == back.samples
    assert ahead.p == back.p

"""Whether two runs of the same samples differ by more than chance, by scipy's tests."""

from collections.abc import Mapping, Sequence

import msgspec

MCNEMAR = "exact McNemar test"
WILCOXON = "Wilcoxon signed-rank test"


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of the samples of one eval, by their ids.

    Attributes:
        correct: of those that are right or wrong.
        scores: of those that have a figure.
    """

    correct: Mapping[str, bool]
    scores: Mapping[str, float]


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the samples that both runs have.

    Attributes:
        test: which one gave `p`; empty where there is nothing to test.
        samples: how many both have.
        gained: ids that were wrong and are right.
        lost: ids that were right and are wrong.
        p: how often chance alone makes a difference as great; None where it was not tested.
    """

    test: str = ""
    samples: int = 0
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    p: float | None = None


def available() -> bool:
    """Whether scipy is installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - only when asked for

    return find_spec("scipy") is not None


def compare(before: Verdicts, after: Verdicts, *, test: bool) -> Paired:
    """Pair the samples of two runs, right and wrong where the logs say so, else their scores.

    Args:
        before: of one run.
        after: of the other.
        test: whether to test for significance, which needs scipy.
    """
    both = [one for one in before.correct if one in after.correct]
    if both:
        gained = tuple(one for one in both if after.correct[one] and not before.correct[one])
        lost = tuple(one for one in both if before.correct[one] and not after.correct[one])
        return Paired(
            test=MCNEMAR,
            samples=len(both),
            gained=gained,
            lost=lost,
            p=mcnemar(len(gained), len(lost)) if test else None,
        )
    both = [one for one in before.scores if one in after.scores]
    if not both:
        return Paired()
    differences = [after.scores[one] - before.scores[one] for one in both]
    return Paired(test=WILCOXON, samples=len(both), p=wilcoxon(differences) if test else None)


def mcnemar(gained: int, lost: int) -> float:
    """The exact form of McNemar's test: a binomial test of the samples that flipped."""
    if not gained + lost:
        return 1.0
    from scipy.stats import binomtest  # noqa: PLC0415 - an extra, and slow to import

    return float(binomtest(gained, gained + lost).pvalue)


def wilcoxon(differences: Sequence[float]) -> float:
    """Whether differences of pairs lie around nought; those that are nought do not count."""
    if not any(differences):
        return 1.0
    from scipy import stats  # noqa: PLC0415 - an extra, and slow to import

    return float(stats.wilcoxon(differences).pvalue)


def adjusted(values: Sequence[float]) -> list[float]:
    """The same for many tests at once, after Benjamini and Hochberg."""
    if not values:
        return []
    from scipy.stats import false_discovery_control  # noqa: PLC0415 - an extra, and slow to import

    return [float(one) for one in false_discovery_control(values)]

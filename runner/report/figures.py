import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from runner.records.layout import Layout
from runner.records.state import EvalState
from runner.report.text import duration

# What openai/evals calls the figure that an eval is about, the usual ones first.
_MAIN = ("accuracy", "score", "f1_score", "bleu", "metascore", "mean")

# Figures that are about another one.
_ABOUT = ("std", "stderr", "count", "usage_", "num_", "n_")

# Larger figures are for no person.
_GREAT = 1e12

# Digits after the point of an amount of money.
_MOST_DIGITS = 12

# Columns of the tables in terminals and in Markdown, after an eval's name and state.
RESULT_COLUMNS = ("score", "samples", "time", "attempts")


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a model and an eval set, as far as there are any.

    Attributes:
        rows: of its table.
        part: what of the eval set that is, in words; empty for all of it.
    """

    layout: Layout
    rows: Sequence[EvalState]
    part: str = ""


class Score(msgspec.Struct, frozen=True):
    """The figure that an eval is about."""

    name: str
    value: float


def main_score(report: Mapping[str, Any] | None) -> Score | None:
    """The figure of a final report that a table shows; None where it has none."""
    figures = {
        name: number
        for name, value in (report or {}).items()
        if (number := _finite(value)) is not None
    }
    others = (name for name in figures if not any(part in name for part in _ABOUT))
    usual = (name for name in _MAIN if name in figures)
    name = next(usual, None) or next(others, None)
    return None if name is None else Score(name, figures[name])


def spread(report: Mapping[str, Any] | None) -> float | None:
    """The uncertainty of the main figure, as the report gives it; None where it gives none."""
    score = main_score(report)
    if score is None or report is None:
        return None
    own = [f"{score.name}_{ending}" for ending in ("stderr", "std")]
    # The third is how openai/evals spells it.
    for name in (*own, "bootstrap_std", "boostrap_std", "stderr", "std"):
        number = _finite(report.get(name))
        if number is not None:
            return abs(number)
    return None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's numbers have no bounds
        return None
    return number if math.isfinite(number) else None


def result_cells(row: EvalState, plain: Callable[[str], str]) -> list[str]:
    """The text of `RESULT_COLUMNS` for one eval; `plain` makes a figure's name safe to show."""
    score = main_score(row.final_report)
    return [
        f"{plain(score.name)} {score.value:.3g}" if score else "",
        str(row.samples) if row.attempts else "",
        "" if row.duration is None else duration(row.duration),
        str(row.attempts) if row.attempts else "",
    ]


def figure(value: float) -> str:
    """A figure with what matters of it: `0.750`, `12.3`, `4,567`."""
    for most, form in ((10, ".3f"), (1000, ".1f")):
        if abs(value) < most:
            return format(value, form)
    return f"{value:,.0f}" if abs(value) < _GREAT else f"{value:.3g}"


def short(value: int) -> str:
    """A large number for people: `12.3k`, `4.56M`; empty for none."""
    for size, sign in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return str(value) if value else ""


def money(value: float | None, currency: str) -> str:
    """An amount: `12.34 USD`; small ones as in `_amount`."""
    return "" if value is None else f"{_amount(value)} {currency}"


def dollars(value: float) -> str:
    """An amount in US dollars: `$1.23`; small ones as in `_amount`."""
    return f"${_amount(value)}"


def _amount(value: float) -> str:
    """Small ones to a hundredth of a cent, and smaller ones with two digits that are not zero."""
    if value >= 1 or not value:
        return f"{value:,.2f}"
    digits = min(1 - math.floor(math.log10(abs(value))), _MOST_DIGITS)
    return f"{value:.{max(4, digits)}f}"


def chance(value: float | None) -> str:
    """A p-value: `0.031`, `< 0.001`."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"  # noqa: PLR2004 - plain

import math
from collections.abc import Mapping
from typing import Any

import msgspec

# What openai/evals calls the figure that an eval is about, the usual ones first.
_MAIN = ("accuracy", "score", "f1_score", "bleu", "metascore", "mean")

# Figures that are about another one.
_ABOUT = ("std", "stderr", "count", "usage_", "num_", "n_")


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
    for name in _MAIN:
        if name in figures:
            return Score(name, figures[name])
    for name, value in figures.items():
        if not any(part in name for part in _ABOUT):
            return Score(name, value)
    return None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's numbers have no bounds
        return None
    return number if math.isfinite(number) else None


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

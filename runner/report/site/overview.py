from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from runner.report.comparison import Comparison
from runner.report.facts import EvalFacts, Source
from runner.report.grid import Grid
from runner.report.site.pages import Link, count
from runner.report.text import duration
from runner.report.timeline import moment
from runner.report.totals import Totals, totals_of

# Failures that are shown with the end of their output.
MOST_FAILURES = 10
# What the cells of several columns can be sorted by, in the order of a cell's data.
_KEYS = ("score", "state", "samples", "time", "tokens", "attempts")


class Failure(msgspec.Struct, frozen=True):
    """An eval that did not succeed, when that was, and the end of its output."""

    fact: EvalFacts
    when: float | None
    tail: Sequence[str]


class Run(msgspec.Struct, frozen=True):
    """One model and eval set among several."""

    column: str
    eval_set: str
    totals: Totals


def overview(
    grid: Grid,
    sources: Sequence[Source],
    comparisons: Sequence[Comparison],
    *,
    title: str,
    currency: str,
    tail: Callable[[EvalFacts], Sequence[str]],
) -> dict[str, Any]:
    """What the overview's template shows."""
    facts = grid.facts
    totals = totals_of(facts)
    failed = sorted(
        (fact for fact in facts if fact.row.state in {"failed", "lost"}),
        key=lambda fact: _ended(fact) or 0.0,
    )
    runs = [
        Run(source.column, source.eval_set, totals_of([f for f in facts if f.source is source]))
        for source in sources
    ]
    several = len({source.eval_set for source in sources}) > 1
    return {
        "title": title,
        "lead": _lead(totals),
        "table": grid.rows,
        "columns": grid.columns,
        "several_sets": several,
        "sorts": _sorts(grid, several=several, priced=bool(currency)),
        "counts": totals.states,
        "facts_count": len(facts),
        "totals": totals,
        "currency": currency,
        "runs": runs,
        "comparisons": [Link(one.path, f"{one.after} against {one.before}") for one in comparisons],
        "failures": [Failure(fact, _ended(fact), tail(fact)) for fact in failed[:MOST_FAILURES]],
        "more_failures": len(failed[MOST_FAILURES:]),
        "damaged": [message for source in sources for message in source.damaged][:MOST_FAILURES],
    }


def _ended(fact: EvalFacts) -> float | None:
    return moment(fact.shown.ended_at) if fact.shown else None


def _lead(totals: Totals) -> str:
    noun = "eval" if totals.evals == 1 else "evals"
    start = f"{count(totals.done)} of {count(totals.evals)} {noun} finished"
    said = f"{start}, {totals.others}." if totals.others else f"{start}."
    if totals.times.took:
        said += f" The attempts took {duration(totals.times.took)}"
        said += f"; one at a time it would have been {duration(totals.times.alone)}."
    return said


def _sorts(grid: Grid, *, several: bool, priced: bool) -> list[dict[str, str]]:
    """What the table can be sorted by: the place of a column, and of a figure in its cells."""
    names = ["eval", *(["eval set"] if several else [])]
    if len(grid.columns) == 1:
        figures = ["state", "score", "samples", "time", "tokens"]
        names += [*figures, *(["cost"] if priced else []), "attempts"]
        return [{"value": str(n), "label": name} for n, name in enumerate(names)]
    found = [{"value": str(n), "label": name} for n, name in enumerate(names)]
    for place, column in enumerate(grid.columns, start=len(names)):
        found += [
            {"value": f"{place}:{n}", "label": f"{column}: {key}"} for n, key in enumerate(_KEYS)
        ]
    return found

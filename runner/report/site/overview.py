import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from runner.model import State
from runner.report.comparison import Comparison
from runner.report.facts import EvalFacts, Source, Totals, totals_of
from runner.report.grid import Grid
from runner.report.site.pages import Link, count, cut, when
from runner.report.text import duration
from runner.report.timeline import Span, Stretch, moment, stretches, times

# Figures of a final report that a page shows.
_MOST = 200


def about(fact: EvalFacts) -> list[tuple[str, str]]:
    """How an eval ran: where, in what, and with which limits."""
    found = [
        ("Model", fact.source.model),
        ("Eval set", fact.source.eval_set),
        ("Run", fact.source.note),
    ]
    if fact.shown is not None:
        record = fact.shown
        found += [
            ("Started", when(record.started_at)),
            ("Ended", when(record.ended_at)),
            ("Host", record.host),
            ("Shard", fact.shard),
            ("Image id", record.image),
        ]
    return [(name, value) for name, value in [*found, *_pinned(fact)] if value]


def figures(report: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """A final report, a figure a line; what is no figure as JSON."""
    shown = list((report or {}).items())
    lines = [(cut(name), cut(_text(value))) for name, value in shown[:_MOST]]
    if more := len(shown) - len(lines):
        lines.append(("…", f"and {more} more, in its log"))
    return lines


def _pinned(fact: EvalFacts) -> list[tuple[str, str]]:
    """What the newest run gave this eval."""
    run = fact.source.state.run
    if run is None:
        return []
    # An eval gets the run's own settings, or those of a rule.
    got: dict[str, Any] = {"network": run.network, "gpus": run.gpus, "image": run.image}
    got |= run.limits
    got |= (run.settings or {}).get(fact.command.key, {})
    same = fact.shown is not None and fact.shown.image == run.image_id
    return [
        ("Image", str(got["image"])),
        ("Image digest", (run.image_digest or "") if same else ""),
        ("Image fingerprint", (run.image_fingerprint or "") if same else ""),
        ("Memory limit", _limit(got.get("memory"), lambda size: f"{size / 1024**3:.3g} GiB")),
        ("CPU limit", _limit(got.get("cpus"), "{:.3g}".format)),
        ("Process limit", _limit(got.get("pids_limit"), "{:,.0f}".format)),
        ("Time limit", _limit(got.get("timeout"), duration)),
        ("Network", str(got["network"] or "")),
        ("GPUs", str(got["gpus"] or "")),
        ("evalset", run.runner),
    ]


def _limit(value: object, shown: Callable[[float], str]) -> str:
    return shown(value) if isinstance(value, int | float) else ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"


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
        (fact for fact in facts if fact.row.state in {State.FAILED, State.LOST}),
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
        "damaged": [message for source in sources for message in source.state.damaged][
            :MOST_FAILURES
        ],
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


# Rows of the list below the charts.
MOST_ROWS = 5000


def timeline_page(spans: Sequence[Span]) -> dict[str, Any]:
    """What the timeline's template shows."""
    ordered = sorted(spans, key=lambda span: span.start)
    return {
        "times": times(spans),
        "stretches": [_shown(stretch) for stretch in stretches(spans)],
        "spans": ordered[:MOST_ROWS],
        "more": len(ordered[MOST_ROWS:]),
    }


def _shown(stretch: Stretch) -> dict[str, Any]:
    hosts = [
        {
            "host": lanes.host,
            "lanes": lanes,
            "shards": ", ".join(sorted({bar.span.shard for bar in lanes.bars} - {""})),
        }
        for lanes in stretch.hosts
    ]
    length = stretch.end - stretch.start
    ticks = [stretch.start + length * quarter / 4 for quarter in range(5)]
    return {"start": stretch.start, "end": stretch.end, "hosts": hosts, "ticks": ticks}

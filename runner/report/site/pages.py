import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from runner import __version__
from runner.model import State
from runner.report.comparison import LEVEL, MCNEMAR, WILCOXON, Comparison, Grid
from runner.report.facts import EvalFacts, EvalTotals, Source, totals_of
from runner.report.figures import chance, figure, money, short
from runner.report.model_use import ModelUse
from runner.report.text import duration, harmless
from runner.report.timeline import Span, moment, stretches, times

ASSETS = ("report.css", "table.js", "data.js", "samples.js", "flips.js", "live.js")

# Of the pages that a template makes.
_SCRIPTS = {
    "overview": ("table",),
    "timeline": ("table",),
    "eval": ("data", "samples"),
    "compare": ("data", "table", "flips"),
}

# Characters of a text in a table.
_LONGEST = 300

# Figures of a final report that a page shows.
_MOST_FIGURES = 200

# Failures that are shown with the end of their output.
MOST_FAILURES = 10

# Rows of the list below the charts of a timeline.
MOST_ROWS = 5000

# What the cells of several columns can be sorted by, in the order of a cell's data.
_KEYS = ("score", "state", "samples", "time", "tokens", "attempts")


class PageLink(msgspec.Struct, frozen=True):
    """A page of the site, from its top."""

    path: str
    label: str


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What all pages of a report share.

    Attributes:
        made: when, in seconds since 1970.
        nav: pages that every page leads to.
        live: whether the pages look for newer ones.
        build: counts the reports of one `evalset view`.
        nonce: what a script of ours carries; nothing in a log knows it.
    """

    made: float
    nav: Sequence[PageLink] = ()
    live: bool = False
    build: int = 0
    nonce: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(16))
    version: str = __version__


class Pages:
    """Makes pages of templates; whatever they show is escaped, and cannot hide or turn text."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def page(self, template: str, path: str, **content: Any) -> bytes:  # noqa: ANN401 - a template's
        """The page at a path from the top of the site, with what its template shows."""
        text = self._environment.get_template(f"{template}.html").render(
            site=self._site,
            here=path,
            up="../" * path.count("/"),
            scripts=_SCRIPTS[template],
            **content,
        )
        return text.encode(errors="replace")

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader("runner.report.site"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=lambda value: harmless(value) if type(value) is str else value,
        )
        environment.filters |= {
            "chance": chance,
            "clock": lambda seconds: _time(seconds, "%H:%M:%S"),
            "count": "{:,}".format,
            "cut": cut,
            "duration": lambda value: "" if value is None else duration(value),
            "figure": figure,
            "money": money,
            "seconds": seconds,
            "short": short,
            "signed": lambda value: f"{value:+.3f}".replace("-", "\N{MINUS SIGN}"),
            "summed": _summed,
            "when": when,
        }
        return environment


def assets() -> Mapping[str, bytes]:
    """The style and the scripts of every page, by name."""
    folder = files("runner.report.site") / "assets"
    return {name: (folder / name).read_bytes() for name in ASSETS}


def cut(text: str) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def when(value: float | str | None) -> str:
    """A time to the second, UTC; other text in a record is shown as it is."""
    seconds = moment(value) if isinstance(value, str) else value
    if seconds is None:
        return cut(str(value or ""))
    return _time(seconds, "%Y-%m-%d %H:%M:%S UTC")


def _time(seconds: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):  # before the year 1
        return ""


def _summed(fact: EvalFacts) -> str:
    """What a cell of several models says below its score."""
    row = fact.row
    parts = [
        f"{row.samples:,} samples" if row.samples else "",
        "" if row.duration is None else duration(row.duration),
        f"{short(fact.tokens.total)} tokens" if fact.tokens.total else "",
        f"{row.attempts} attempts" if row.attempts > 1 else "",
        *_asked(fact.asked),
    ]
    return " · ".join(part for part in parts if part)


def _asked(asked: ModelUse | None) -> list[str]:
    if asked is None or asked.median is None:
        return []
    return [f"{seconds(asked.median)} an answer", money(asked.cost, asked.currency)]


def seconds(value: float | None) -> str:
    """How long an answer took: `0.31 s`; empty for None."""
    if value is None:
        return ""
    return f"{value:.2f} s" if value < 10 else duration(value)  # noqa: PLR2004 - plain


def overview(
    grid: Grid,
    sources: Sequence[Source],
    comparisons: Sequence[Comparison],
    *,
    title: str,
    currency: str,
    tail: Callable[[EvalFacts], Sequence[str]],
) -> dict[str, Any]:
    """What the overview's template shows; `tail` gives the end of a failed eval's output."""
    facts = grid.facts
    totals = totals_of(facts)

    def ended(fact: EvalFacts) -> float | None:
        return moment(fact.attempt.ended_at) if fact.attempt else None

    failed = sorted(
        (fact for fact in facts if fact.row.state in {State.FAILED, State.LOST}),
        key=lambda fact: ended(fact) or 0.0,
    )
    several = len({source.eval_set for source in sources}) > 1
    damaged = [message for source in sources for message in source.state.damaged]
    asked = totals.asked
    if asked is not None:
        damaged += asked.damaged
    return {
        "title": title,
        "lead": _lead(totals),
        "table": grid.rows,
        "columns": grid.columns,
        "several_sets": several,
        "sorts": _sorts(grid, several=several, priced=bool(currency), asked=asked),
        "asked": asked,
        "counts": totals.states,
        "facts_count": len(facts),
        "totals": totals,
        "currency": currency,
        "runs": [
            {
                "column": source.column,
                "eval_set": source.eval_set,
                "totals": totals_of([fact for fact in facts if fact.source is source]),
            }
            for source in sources
        ],
        "comparisons": [
            PageLink(one.path, f"{one.after} against {one.before}") for one in comparisons
        ],
        "failures": [
            {"fact": fact, "when": ended(fact), "tail": tail(fact)}
            for fact in failed[:MOST_FAILURES]
        ],
        "more_failures": len(failed[MOST_FAILURES:]),
        "damaged": damaged[:MOST_FAILURES],
    }


def _lead(totals: EvalTotals) -> str:
    noun = "eval" if totals.evals == 1 else "evals"
    start = f"{totals.done:,} of {totals.evals:,} {noun} finished"
    said = f"{start}, {totals.others}." if totals.others else f"{start}."
    if totals.times.took:
        said += f" The attempts took {duration(totals.times.took)}"
        said += f"; one at a time it would have been {duration(totals.times.alone)}."
    return said


def _sorts(
    grid: Grid, *, several: bool, priced: bool, asked: ModelUse | None
) -> list[dict[str, str]]:
    """What the table can be sorted by: the place of a column, and of a figure in its cells."""
    names = ["eval", *(["eval set"] if several else [])]
    if len(grid.columns) == 1:
        names += [*("state", "score", "samples", "time", "tokens"), *(["cost"] if priced else [])]
        names.append("attempts")
        names += ["latency", "paid"] if asked else []
    found = [{"value": str(n), "label": name} for n, name in enumerate(names)]
    if len(grid.columns) > 1:
        for place, column in enumerate(grid.columns, start=len(names)):
            found += [
                {"value": f"{place}:{n}", "label": f"{column}: {key}"}
                for n, key in enumerate(_KEYS)
            ]
    return found


def timeline(spans: Sequence[Span], moments: Sequence[float], *, title: str) -> dict[str, Any]:
    """What the timeline's template shows; `moments` are those in which requests were answered."""
    ordered = sorted(spans, key=lambda span: span.start)
    return {
        "title": title,
        "times": times(spans),
        "stretches": stretches(spans, moments),
        "spans": ordered[:MOST_ROWS],
        "more": len(ordered[MOST_ROWS:]),
    }


def compare(found: Comparison) -> dict[str, Any]:
    """What the template of a comparison shows."""
    return {
        "found": found,
        "lead": _found(found),
        "method": _method(found),
        "several_sets": len({line.eval_set for line in found.lines}) > 1,
    }


def _found(found: Comparison) -> str:
    flipped = found.gained + found.lost
    ways = f"{found.ways('up')} up, {found.ways('down')} down, {found.ways('same')} unchanged."
    count = f"{flipped:,}" if flipped else "none"
    lead = f"{ways} Of {found.samples:,} samples that both have, {count} flipped"
    if found.p is not None and flipped:
        meaning = "more than chance explains" if found.p < LEVEL else "which may be chance"
        p = chance(found.p)
        lead += f": {meaning} (p {p if p.startswith('<') else f'= {p}'})"
    unlike = sum(not line.same_arguments for line in found.lines)
    if not unlike:
        return f"{lead}."
    evals = "1 eval was" if unlike == 1 else f"{unlike:,} evals were"
    return f"{lead}. {evals} not run with the same arguments in both."


def _method(found: Comparison) -> str:
    tested = sum(line.adjusted is not None for line in found.lines)
    if not tested:
        return (
            "Not tested for significance: no samples could be paired, or scipy was not "
            "installed where this was made."
        )
    return (
        f"p is that of the {MCNEMAR} (two-sided, of the samples that flipped); where samples "
        f"have scores but no right and wrong, of the {WILCOXON}. Both are scipy's. The last "
        f"column is adjusted for {tested} tests after Benjamini and Hochberg; "
        f"★ marks what is below {LEVEL}."
    )


def about(fact: EvalFacts) -> list[tuple[str, str]]:
    """How an eval ran: where, in what, and with which limits."""
    found = [
        ("Model", fact.source.model),
        ("Eval set", fact.source.eval_set),
        ("Run", fact.source.note),
    ]
    if fact.attempt is not None:
        found += [
            ("Started", when(fact.attempt.started_at)),
            ("Ended", when(fact.attempt.ended_at)),
            ("Host", fact.attempt.host),
            ("Shard", fact.shard),
            ("Image id", fact.attempt.image),
        ]
    return [(name, value) for name, value in [*found, *_pinned(fact)] if value]


def _pinned(fact: EvalFacts) -> list[tuple[str, str]]:
    """What the newest run gave this eval."""
    run = fact.source.state.run
    if run is None:
        return []
    # An eval gets the run's own settings, or those of a rule.
    got: dict[str, Any] = {"network": run.network, "gpus": run.gpus, "image": run.image}
    got |= run.limits
    got |= (run.settings or {}).get(fact.command.key, {})
    same = fact.attempt is not None and fact.attempt.image == run.image_id

    def limit(name: str, shown: Callable[[float], str]) -> str:
        value = got.get(name)
        return shown(value) if isinstance(value, int | float) else ""

    return [
        ("Image", str(got["image"])),
        ("Image digest", (run.image_digest or "") if same else ""),
        ("Image fingerprint", (run.image_fingerprint or "") if same else ""),
        ("Memory limit", limit("memory", lambda size: f"{size / 1024**3:.3g} GiB")),
        ("CPU limit", limit("cpus", "{:.3g}".format)),
        ("Process limit", limit("pids_limit", "{:,.0f}".format)),
        ("Time limit", limit("timeout", duration)),
        ("Network", str(got["network"] or "")),
        ("GPUs", str(got["gpus"] or "")),
        ("evalset", run.runner),
    ]


def figures(report: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """A final report, a figure a line; what is not a figure as JSON."""
    shown = list((report or {}).items())
    lines = [(cut(name), cut(_text(value))) for name, value in shown[:_MOST_FIGURES]]
    if more := len(shown) - len(lines):
        lines.append(("…", f"and {more} more, in its log"))
    return lines


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"

import json
from collections.abc import Callable, Mapping
from typing import Any

from runner.job import key_of
from runner.report.facts import EvalFacts
from runner.report.site.pages import cut, when
from runner.report.text import duration

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
    run = fact.source.run
    if run is None:
        return []
    # An eval gets the run's own settings, or those of a rule.
    got: dict[str, Any] = {"network": run.network, "gpus": run.gpus, "image": run.image}
    got |= run.limits
    got |= (run.settings or {}).get(key_of(fact.command), {})
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

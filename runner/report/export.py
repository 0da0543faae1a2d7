import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.report.answers import Asked
from runner.report.comparison import Comparison, Grid
from runner.report.facts import EvalFacts, Source, totals_of
from runner.report.text import json_line

VERSION = 1

# What a spreadsheet takes for a formula where a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_json(
    grid: Grid, sources: Sequence[Source], comparisons: Sequence[Comparison], *, currency: str
) -> bytes:
    """A report as one JSON object."""
    runs = [
        {
            "model": source.model,
            "eval_set": source.eval_set,
            "note": source.note,
            **_totals([fact for fact in grid.facts if fact.source is source]),
        }
        for source in sources
    ]
    content = {
        "version": VERSION,
        "currency": currency or None,
        "totals": _totals(grid.facts),
        "runs": runs,
        "evals": [_record(fact) for fact in grid.facts],
        "comparisons": [_compared(one) for one in comparisons],
    }
    return f"{json_line(content)}\n".encode()


def as_csv(grid: Grid) -> bytes:
    """A report as a table, whose text no spreadsheet takes for a formula."""
    out = io.StringIO()
    records = [_flat(_record(fact)) for fact in grid.facts]
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode(errors="replace")


def _record(fact: EvalFacts) -> dict[str, Any]:
    row, newest = fact.row, fact.attempt
    return {
        "model": fact.source.model,
        "eval_set": fact.source.eval_set,
        "note": fact.source.note,
        "eval": row.eval,
        "command": list(fact.command),
        "page": f"evals/{fact.page}.html",
        "state": row.state,
        "reason": row.reason,
        "score_name": fact.score.name if fact.score else None,
        "score": fact.score.value if fact.score else None,
        "spread": fact.spread,
        "samples": row.samples,
        "right": fact.log.right,
        "wrong": fact.log.wrong,
        "left_out": fact.log.events_left_out,
        "duration": row.duration,
        "prompt_tokens": fact.tokens.prompt,
        "completion_tokens": fact.tokens.completion,
        "cost": fact.cost,
        "attempts": row.attempts,
        **_asked(fact.asked),
        "started_at": newest.started_at if newest else None,
        "ended_at": newest.ended_at if newest else None,
        "host": newest.host if newest else None,
        "shard": fact.shard or None,
        "image": newest.image if newest else None,
        "final_report": row.final_report,
    }


def _asked(asked: Asked | None) -> dict[str, Any]:
    """What the answers on record say; without any, nothing is known."""
    totals = asked and asked.totals
    return {
        "requests": totals and totals.requests,
        "replayed": totals and totals.replayed,
        "perhaps_paid": totals and totals.perhaps_paid,
        "paid": asked and asked.cost,
        "latency": asked and asked.median,
        "latency_95": asked and asked.within(0.95),
    }


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, list | dict):
            found[name] = msgspec.json.encode(value).decode()
        elif isinstance(value, str) and value.lstrip(" \n").startswith(_FORMULA):
            found[name] = f"'{value}"
        else:
            found[name] = value
    return found


def _totals(facts: Sequence[EvalFacts]) -> dict[str, Any]:
    totals = totals_of(facts)
    return {
        "evals": totals.evals,
        "states": totals.states,
        "samples": totals.samples,
        "right": totals.right,
        "wrong": totals.wrong,
        "prompt_tokens": totals.tokens.prompt,
        "completion_tokens": totals.tokens.completion,
        "unpriced_tokens": totals.unpriced,
        "cost": totals.cost,
        "attempts": totals.attempts,
        **_asked(totals.asked),
        "seconds": totals.times.took,
        "seconds_one_at_a_time": totals.times.alone,
    }


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "before": found.before,
        "after": found.after,
        "samples": found.samples,
        "now_right": found.gained,
        "now_wrong": found.lost,
        "p": found.p,
        "same_arguments": found.same_arguments,
        "evals": [
            {
                "eval_set": line.eval_set,
                "eval": line.before.row.eval,
                "same_arguments": line.same_arguments,
                "before_arguments": line.before.command.arguments,
                "after_arguments": line.after.command.arguments,
                "note": line.note,
                "change": line.change,
                "test": line.paired.test,
                "samples": line.paired.samples,
                "now_right": line.paired.gained,
                "now_wrong": line.paired.lost,
                "p": line.paired.p,
                "p_adjusted": line.adjusted,
            }
            for line in found.lines
        ],
    }

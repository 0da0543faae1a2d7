from collections.abc import Callable
from typing import Any

from runner.records.spent import Spent
from runner.records.sums import Totals
from runner.report.figures import dollars


def spent_line(spent: Spent) -> str:
    """What was paid for and what was saved, in one line; empty where nothing was asked."""
    totals = spent.totals
    paid = _amount(totals.usage.input + totals.usage.output, totals.usd)
    saved = _amount(totals.saved_tokens, totals.saved)
    parts = [
        f"{totals.answers:,} paid for{paid and f' ({paid})'}" if totals.answers else "",
        f"{totals.replayed:,} replayed{saved and f' (saved {saved})'}" if totals.replayed else "",
        f"{totals.perhaps_paid:,} {perhaps(spent)}" if totals.perhaps_paid else "",
    ]
    found = ", ".join(filter(None, parts))
    return found and f"answers: {found}"


def perhaps(spent: Spent) -> str:
    """What requests without an end are called."""
    return "under way or perhaps paid" if spent.working else "perhaps paid"


def _amount(tokens: int, usd: float | None) -> str:
    return ", ".join(
        filter(None, (f"{tokens:,} tokens" if tokens else "", "" if usd is None else dollars(usd)))
    )


def columns(spent: Spent) -> dict[str, Callable[[Totals], str]]:
    """What a table of answers shows behind an eval's name, and how a cell shows it.

    What seldom is anything has a column only where it is something.
    """
    totals = spent.totals
    found: dict[str, Callable[[Totals], str]] = {
        "requests": lambda one: _count(one.requests),
        "answers": lambda one: _count(one.answers),
        "replayed": lambda one: _count(one.replayed),
        "tokens in": lambda one: _count(one.usage.input),
        "tokens out": lambda one: _count(one.usage.output),
    }
    if totals.usd is not None:
        found["cost"] = _cost
    if totals.failed:
        found["failed"] = lambda one: _count(one.failed)
    if totals.perhaps_paid:
        found[perhaps(spent)] = lambda one: _count(one.perhaps_paid)
    return found


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _cost(totals: Totals) -> str:
    if totals.usd is None:
        return ""
    return dollars(totals.usd) + ("+" if totals.unpriced else "")  # what has no price adds to it


def totals_json(totals: Totals) -> dict[str, Any]:
    """Totals as `evalset answers --json` and `evalset status --json` have them."""
    return {
        "requests": totals.requests,
        "answers": totals.answers,
        "failed": totals.failed,
        "perhaps_paid": totals.perhaps_paid,
        "replayed": totals.replayed,
        "input_tokens": totals.usage.input,
        "output_tokens": totals.usage.output,
        "cached_tokens": totals.usage.cached,
        "usd": totals.usd,
        "unpriced_tokens": totals.unpriced,
        "saved_tokens": totals.saved_tokens,
        "saved_usd": totals.saved,
        "perhaps_tokens": totals.reserved.tokens,
        "perhaps_usd": totals.reserved.usd,
        "seconds": round(totals.seconds, 3),
    }


def spent_json(spent: Spent | None) -> dict[str, Any] | None:
    """All that was spent; None where there are no answers."""
    return totals_json(spent.totals) if spent and spent.evals else None

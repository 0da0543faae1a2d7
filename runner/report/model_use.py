"""What is told of the answers on record, and of what they cost."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import EnvironmentFault
from runner.gateway.prices import DOLLARS, Prices
from runner.records.answers import Short
from runner.records.spending import Spent, Sums, Totals, plus, read_sums
from runner.report.figures import dollars
from runner.report.timeline import moment


class ModelUse(msgspec.Struct, frozen=True, kw_only=True):
    """What evals asked of their models, by the answers on record.

    Attributes:
        cost: by the prices of the report, or else by those that the run knew; None without.
        currency: of `cost` and of `saved`.
        unpriced: tokens that have no price.
        saved: what the answers that were given again had cost, if the run knew.
        seconds: that each answer took, from the shortest to the longest.
        moments: when each came, in seconds since 1970.
        damaged: a message for each line that cannot be read.
    """

    totals: Totals = Totals()
    cost: float | None = None
    currency: str = DOLLARS
    unpriced: int = 0
    saved: float | None = None
    seconds: Sequence[float] = ()
    moments: Sequence[float] = ()
    damaged: Sequence[str] = ()

    def within(self, share: float) -> float | None:
        """The seconds in which this share of the answers came; None without any."""
        if not self.seconds:
            return None
        return self.seconds[min(int(share * len(self.seconds)), len(self.seconds) - 1)]

    @property
    def median(self) -> float | None:
        """The seconds in which half of the answers came."""
        return self.within(0.5)

    @property
    def about(self) -> str:
        """What became of the requests that were not simply answered, in words."""
        totals = self.totals
        named = {
            "replayed": totals.replayed,
            "failed": totals.failed,
            "perhaps paid": totals.perhaps_paid,
        }
        return ", ".join(f"{count:,} {name}" for name, count in named.items() if count)


def read_asked(path: Path, prices: Prices | None) -> ModelUse | None:
    """Read the answers file of an eval; None where it has none.

    Args:
        prices: by which its answers cost something; None takes what the run has recorded.
    """
    seconds, moments = array("d"), array("d")

    def visit(line: Short) -> None:
        seconds.append(line.seconds)
        came = moment(line.at)
        if came is not None:
            moments.append(came)

    try:
        sums = read_sums(path, visit)
    except EnvironmentFault as fault:
        return ModelUse(damaged=[str(fault)])
    if sums == Sums():
        return None
    found = ModelUse(
        totals=sums.totals,
        cost=sums.totals.usd,
        unpriced=sums.totals.unpriced,
        saved=sums.totals.saved,
        seconds=sorted(seconds),
        moments=moments,
        damaged=sums.damaged,
    )
    return found if prices is None else _priced(found, sums, prices)


def _priced(asked: ModelUse, sums: Sums, prices: Prices) -> ModelUse:
    cost, unpriced = None, 0
    for model, usage in sums.spent.items():
        price = prices.of(model)
        if price is None:
            unpriced += usage.total
        else:
            own = price.cost(input=usage.input, output=usage.output, cached=usage.cached)
            cost = plus(cost, own)
    return msgspec.structs.replace(
        asked,
        cost=cost,
        currency=prices.currency,
        unpriced=unpriced,
        saved=asked.saved if prices.is_in_dollars else None,
    )


def together(all_: Iterable[ModelUse | None]) -> ModelUse | None:
    """What several evals asked; None where none of them has answers."""
    found = [one for one in all_ if one is not None]
    if not found:
        return None
    cost: float | None = None
    saved: float | None = None
    for one in found:
        cost, saved = plus(cost, one.cost), plus(saved, one.saved)
    return ModelUse(
        totals=sum((one.totals for one in found), start=Totals()),
        cost=cost,
        currency=found[0].currency,
        unpriced=sum(one.unpriced for one in found),
        saved=saved,
        seconds=sorted(second for one in found for second in one.seconds),
        moments=array("d", (when for one in found for when in one.moments)),
        damaged=[message for one in found for message in one.damaged],
    )


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
    """What a table of answers shows after an eval's name, and how a cell shows it.

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

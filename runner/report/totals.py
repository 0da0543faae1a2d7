from collections import Counter
from collections.abc import Sequence

import msgspec

from runner.record.samples import Usage
from runner.report.facts import EvalFacts
from runner.report.timeline import Times, times


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Evals of a report, taken together.

    Attributes:
        evals: how many.
        states: how many are in each state, those that ask for attention last.
        samples: in the logs that are shown.
        right: of those.
        wrong: as above.
        tokens: of the same.
        cost: by the prices; None without.
        unpriced: tokens that have no price.
        attempts: how many ended.
        times: how long they took.
    """

    evals: int
    states: dict[str, int]
    samples: int
    right: int
    wrong: int
    tokens: Usage
    cost: float | None
    unpriced: int
    attempts: int
    times: Times

    @property
    def done(self) -> int:
        """How many are finished."""
        return self.states.get("done", 0)

    @property
    def others(self) -> str:
        """What is not finished, in words."""
        return ", ".join(f"{n} {state}" for state, n in self.states.items() if state != "done")

    @property
    def right_share(self) -> str:
        """How many samples are right, as a share of those that are right or wrong."""
        known = self.right + self.wrong
        return f"{self.right / known:.1%}" if known else ""

    @property
    def right_wrong(self) -> str:
        """The same in words."""
        return f"{self.right:,} right, {self.wrong:,} wrong" if self.right + self.wrong else ""

    @property
    def unpriced_said(self) -> str:
        """That tokens have no price; empty if all have one."""
        return f"{self.unpriced:,} tokens without a price" if self.unpriced else ""

    @property
    def attempts_said(self) -> str:
        """How many were in vain."""
        vain = self.attempts - self.done
        return f"{vain} did not succeed" if vain > 0 else ""


def totals_of(facts: Sequence[EvalFacts]) -> Totals:
    """Take evals together."""
    counts = Counter(fact.row.state for fact in facts)
    order = ("done", "running", "to do", "lost", "failed")
    costs = [fact.cost for fact in facts if fact.cost is not None]
    return Totals(
        evals=len(facts),
        states={state: counts[state] for state in order if counts[state]},
        samples=sum(fact.row.samples for fact in facts),
        right=sum(fact.log.right for fact in facts),
        wrong=sum(fact.log.wrong for fact in facts),
        tokens=sum((fact.tokens for fact in facts), Usage()),
        cost=sum(costs) if costs else None,
        unpriced=sum(fact.unpriced for fact in facts),
        attempts=sum(len(fact.tried) for fact in facts),
        times=times([span for fact in facts for span in fact.spans]),
    )

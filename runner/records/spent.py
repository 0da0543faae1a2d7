from collections.abc import Iterable
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault
from runner.model import Command
from runner.records.layout import Layout
from runner.records.lock import is_held
from runner.records.sums import Totals, read_sums


class EvalSpent(msgspec.Struct, frozen=True, kw_only=True):
    """What the answers of one eval add up to.

    Attributes:
        eval: the resolved key; as far as the file's name has it where no plan has the eval.
        command: None where no plan has it.
        file: its answers file.
    """

    eval: str
    command: Command | None
    file: Path
    totals: Totals


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What the answers of a model and an eval set add up to.

    Attributes:
        evals: those that have answers, in the order of the plan.
        damaged: a message for each line and each file that cannot be read.
        working: whether a gateway works, so that requests may be under way.
    """

    evals: tuple[EvalSpent, ...] = ()
    damaged: tuple[str, ...] = ()
    working: bool = False

    @property
    def totals(self) -> Totals:
        """All of them."""
        return sum((one.totals for one in self.evals), start=Totals())


def read_spent(layout: Layout, commands: Iterable[Command]) -> Spent:
    """Add up the answers files, which no kill can make wrong; one that cannot be read is named.

    Args:
        layout: where they are.
        commands: of the plan, which the evals are named after.
    """
    known = {layout.answers_of(command): command for command in commands}
    order = {path: place for place, path in enumerate(known)}
    there = sorted(layout.answers.glob("*.jsonl"))
    evals, damaged = [], []
    for path in sorted(there, key=lambda path: order.get(path, len(order))):
        try:
            sums = read_sums(path)
        except EnvironmentFault as fault:
            damaged.append(str(fault))
            continue
        command = known.get(path)
        name = command.eval if command else path.stem.rpartition(".")[0]
        evals.append(EvalSpent(eval=name, command=command, file=path, totals=sums.totals))
        damaged += sums.damaged
    return Spent(evals=tuple(evals), damaged=tuple(damaged), working=_works(layout))


def _works(layout: Layout) -> bool:
    try:
        return is_held(layout.gateway / "lock")
    except EnvironmentFault:  # another user's
        return False

import shlex
from collections import Counter
from collections.abc import Sequence

import msgspec

from runner.report.facts import EvalFacts, Source, facts_of


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """One eval in every column.

    Attributes:
        eval_set: that it is of.
        name: the resolved key.
        about: its arguments, where the eval is there with others, too.
        cells: one for each column; None where it was not planned.
    """

    eval_set: str
    name: str
    about: str
    cells: Sequence[EvalFacts | None]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Evals by models.

    Attributes:
        columns: what the models, or the runs, are called.
        rows: the evals, in the order of their plans.
    """

    columns: Sequence[str]
    rows: Sequence[GridRow]

    @property
    def facts(self) -> list[EvalFacts]:
        """Every cell that has something in it."""
        return [cell for row in self.rows for cell in row.cells if cell is not None]


def grid_of(sources: Sequence[Source]) -> Grid:
    """Put sources side by side: the n-th command of an eval beside the n-th of the others."""
    columns = list(dict.fromkeys(source.column for source in sources))
    cells: dict[tuple[str, str, int], list[EvalFacts | None]] = {}
    for source in sources:
        counts: Counter[str] = Counter()
        for fact in facts_of(source):
            name = fact.row.eval
            key = (source.eval_set, name, counts[name])
            cells.setdefault(key, [None] * len(columns))[columns.index(source.column)] = fact
            counts[name] += 1
    several = {key[:2] for key in cells if key[2]}
    rows = [
        GridRow(
            eval_set=key[0],
            name=key[1],
            about=_arguments(found) if key[:2] in several else "",
            cells=found,
        )
        for key, found in cells.items()
    ]
    return Grid(columns=columns, rows=rows)


def _arguments(cells: Sequence[EvalFacts | None]) -> str:
    """What follows the eval in the first command of a row."""
    first = next(cell for cell in cells if cell is not None)
    return shlex.join(first.command[3:]) or "without arguments"

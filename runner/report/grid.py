from collections import Counter
from collections.abc import Sequence

import msgspec

from runner.report.facts import UNLIKE, EvalFacts, Source, facts_of

_Cells = list[EvalFacts | None]

# An eval set, an eval of it, and its cells.
_Found = tuple[str, str, _Cells]


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """One eval in every column.

    Attributes:
        eval_set: that it is of.
        name: the resolved key.
        about: its arguments, where the eval is there with others, too; that its cells differ in
            them, where they do.
        cells: one for each column; None where it was not planned.
    """

    eval_set: str
    name: str
    about: str
    cells: Sequence[EvalFacts | None]

    @property
    def same_arguments(self) -> bool:
        """Whether all cells were run with the same."""
        return _same_arguments(self.cells)


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
    """Put sources side by side.

    An eval stands next to the same one with the same arguments. What then has an empty cell where
    another row of its eval has none, and the other way round, is put into one row with that.
    """
    columns = list(dict.fromkeys(source.column for source in sources))
    rows = _folded(_alike(sources, columns))
    times = Counter((eval_set, name) for eval_set, name, _ in rows)
    return Grid(
        columns=columns,
        rows=[
            GridRow(
                eval_set=eval_set,
                name=name,
                about=_about(cells, several=times[eval_set, name] > 1),
                cells=cells,
            )
            for eval_set, name, cells in rows
        ],
    )


def _alike(sources: Sequence[Source], columns: Sequence[str]) -> list[_Found]:
    """Cells with equal arguments next to each other, in the order of the plans."""
    rows: dict[tuple[str, str, tuple[str, ...], int], _Cells] = {}
    for source in sources:
        # More than one where they differ in the program that ran them.
        counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        for fact in facts_of(source):
            name, arguments = fact.row.eval, fact.command.arguments
            key = (source.eval_set, name, arguments, counts[name, arguments])
            rows.setdefault(key, [None] * len(columns))[columns.index(source.column)] = fact
            counts[name, arguments] += 1
    return [(key[0], key[1], cells) for key, cells in rows.items()]


def _folded(rows: Sequence[_Found]) -> list[_Found]:
    """The same, with what can stand in the empty cells of an earlier row of its eval put there."""
    kept: list[_Found] = []
    gaps: dict[tuple[str, str], list[_Cells]] = {}
    for eval_set, name, cells in rows:
        open_rows = gaps.setdefault((eval_set, name), [])
        for earlier in open_rows:
            if not any(one and other for one, other in zip(earlier, cells, strict=True)):
                earlier[:] = [one or other for one, other in zip(earlier, cells, strict=True)]
                break
        else:
            kept.append((eval_set, name, cells))
            if None in cells:
                open_rows.append(cells)
    return kept


def _about(cells: Sequence[EvalFacts | None], *, several: bool) -> str:
    if not _same_arguments(cells):
        return UNLIKE
    return next(cell.arguments for cell in cells if cell is not None) if several else ""


def _same_arguments(cells: Sequence[EvalFacts | None]) -> bool:
    return len({cell.command.arguments for cell in cells if cell is not None}) == 1

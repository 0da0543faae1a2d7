import os
from collections.abc import Iterable, Iterator
from itertools import combinations

import msgspec

from runner.plan.prices import Prices
from runner.record.belonging import log_paths
from runner.record.samples import SampleIndex
from runner.report.comparison import Comparison, Line, comparison
from runner.report.facts import EvalFacts, LogFacts
from runner.report.grid import Grid, GridRow
from runner.report.paired import Verdicts, compare

# Logs of one attempt; an eval that leaves more has nothing for people in them.
MOST_LOGS = 100
# With more columns each is compared with the first alone.
MOST_COLUMNS = 5


class Cell(msgspec.Struct, frozen=True):
    """An eval, and where its samples are."""

    fact: EvalFacts
    index: SampleIndex


def cell_of(fact: EvalFacts, prices: Prices | None) -> Cell:
    """Read the logs of an eval."""
    names = fact.shown.logs if fact.shown is not None else ()
    known = log_paths(fact.source.layout, names)[:MOST_LOGS]
    paths = [path for path in known if os.access(path, os.R_OK)]
    index = SampleIndex(paths)
    log = LogFacts(
        right=sum(one is True for one in index.correct),
        wrong=sum(one is False for one in index.correct),
        usage=index.usage,
        unreadable=index.unreadable,
        left_out=index.left_out,
        missing=len(set(names)) - len(paths),
    )
    return Cell(fact.with_log(log, prices), index)


def compared(grid: Grid, prices: Prices | None, *, test: bool) -> tuple[Grid, list[Comparison]]:
    """The same with what the logs say, and the comparisons of its columns.

    One eval is read at a time, in all columns.
    """
    lines: dict[tuple[int, int], list[Line]] = {pair: [] for pair in pairs_of(grid)}

    def facts(row: GridRow) -> list[EvalFacts | None]:
        cells = [None if fact is None else cell_of(fact, prices) for fact in row.cells]
        for (one, other), found in lines.items():
            before, after = cells[one], cells[other]
            if before is not None and after is not None:
                found.append(line_of(row, before, after, test=test))
        return [None if cell is None else cell.fact for cell in cells]

    full = with_cells(grid, (facts(row) for row in grid.rows))
    columns = grid.columns
    return full, [comparison(columns[a], columns[b], found) for (a, b), found in lines.items()]


def pairs_of(grid: Grid) -> Iterator[tuple[int, int]]:
    """Columns that are compared: those that have an eval in common."""
    count = len(grid.columns)
    for one, other in combinations(range(count), 2):
        both = any(row.cells[one] and row.cells[other] for row in grid.rows)
        if both and (count <= MOST_COLUMNS or one == 0):
            yield one, other


def line_of(row: GridRow, before: Cell, after: Cell, *, test: bool) -> Line:
    """Compare one eval in two columns."""
    line = Line(
        name=row.name,
        eval_set=row.eval_set,
        before=before.fact,
        after=after.fact,
        paired=compare(_verdicts(before), _verdicts(after), test=test),
    )
    if not row.about:
        return line
    one, other = before.fact.arguments, after.fact.arguments
    words = one if line.same_arguments else f"{one} \N{RIGHTWARDS ARROW} {other}"
    return msgspec.structs.replace(line, name=f"{row.name} {words}")


def with_cells(grid: Grid, cells: Iterable[list[EvalFacts | None]]) -> Grid:
    """The same with other cells."""
    rows = [
        msgspec.structs.replace(row, cells=found)
        for row, found in zip(grid.rows, cells, strict=True)
    ]
    return msgspec.structs.replace(grid, rows=rows)


def _verdicts(cell: Cell) -> Verdicts:
    index = cell.index
    return Verdicts(
        correct={k: v for k, v in zip(index.ids, index.correct, strict=True) if v is not None},
        scores={k: v for k, v in zip(index.ids, index.scores, strict=True) if v is not None},
    )

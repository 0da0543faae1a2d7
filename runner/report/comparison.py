import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import msgspec

from runner.gateway.prices import Prices
from runner.model import State
from runner.report.facts import Cell, EvalFacts, Source, cell_of, facts_of

# Said of cells or runs that are compared all the same.
UNLIKE = "not the same arguments"

MCNEMAR = "exact McNemar test"

WILCOXON = "Wilcoxon signed-rank test"

# Flips of one eval that are listed.
MOST_FLIPS = 500

# What counts as more than chance.
LEVEL = 0.05

# With more columns each is compared with the first alone.
MOST_COLUMNS = 5

# The places of two columns.
Pair = tuple[int, int]


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """One eval in every column.

    Attributes:
        about: its arguments, where the eval has several rows; that its cells differ in them, where
            they do.
        cells: one for each column; None where it was not planned.
    """

    eval_set: str
    name: str
    about: str = ""
    cells: list[EvalFacts | None]

    @property
    def same_arguments(self) -> bool:
        """Whether all cells were run with the same."""
        return len({cell.command.arguments for cell in self.cells if cell is not None}) == 1


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Evals, in the order of their plans, by models or runs."""

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
    times = Counter((row.eval_set, row.name) for row in rows)

    def about(row: GridRow) -> str:
        if not row.same_arguments:
            return UNLIKE
        several = times[row.eval_set, row.name] > 1
        return next(cell.arguments for cell in row.cells if cell is not None) if several else ""

    return Grid(
        columns=columns, rows=[msgspec.structs.replace(row, about=about(row)) for row in rows]
    )


def _alike(sources: Sequence[Source], columns: Sequence[str]) -> list[GridRow]:
    """Cells with equal arguments next to each other, in the order of the plans."""
    rows: dict[tuple[str, str, tuple[str, ...], int], GridRow] = {}
    for source in sources:
        # More than one where they differ in the program that ran them.
        counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        for fact in facts_of(source):
            name, arguments = fact.row.eval, fact.command.arguments
            row = rows.setdefault(
                (source.eval_set, name, arguments, counts[name, arguments]),
                GridRow(eval_set=source.eval_set, name=name, cells=[None] * len(columns)),
            )
            row.cells[columns.index(source.column)] = fact
            counts[name, arguments] += 1
    return list(rows.values())


def _folded(rows: Sequence[GridRow]) -> list[GridRow]:
    """The same, with what can stand in the empty cells of an earlier row of its eval put there."""
    kept: list[GridRow] = []
    gaps: dict[tuple[str, str], list[GridRow]] = {}
    for row in rows:
        open_rows = gaps.setdefault((row.eval_set, row.name), [])
        for earlier in open_rows:
            pairs = list(zip(earlier.cells, row.cells, strict=True))
            if not any(one and other for one, other in pairs):
                earlier.cells[:] = [one or other for one, other in pairs]
                break
        else:
            kept.append(row)
            if None in row.cells:
                open_rows.append(row)
    return kept


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of the samples of one eval, by their ids, where it says so."""

    correct: Mapping[str, bool]
    scores: Mapping[str, float]


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the samples that both runs have.

    Attributes:
        test: which one gave `p`; empty where there is nothing to test.
        samples: how many both have.
        gained: ids that were wrong and are right.
        lost: ids that were right and are wrong.
        p: how often chance alone makes a difference as great; None where it was not tested.
    """

    test: str = ""
    samples: int = 0
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    p: float | None = None


def compare(before: Verdicts, after: Verdicts, *, test: bool) -> Paired:
    """Pair the samples of two runs, right and wrong where the logs say so, else their scores.

    With `test`, which needs scipy, it says whether they differ by more than chance.
    """
    both = [one for one in before.correct if one in after.correct]
    if both:
        gained = tuple(one for one in both if after.correct[one] and not before.correct[one])
        lost = tuple(one for one in both if before.correct[one] and not after.correct[one])
        return Paired(
            test=MCNEMAR,
            samples=len(both),
            gained=gained,
            lost=lost,
            p=mcnemar(len(gained), len(lost)) if test else None,
        )
    both = [one for one in before.scores if one in after.scores]
    if not both:
        return Paired()
    differences = [after.scores[one] - before.scores[one] for one in both]
    return Paired(test=WILCOXON, samples=len(both), p=_wilcoxon(differences) if test else None)


def mcnemar(gained: int, lost: int) -> float:
    """The exact form of McNemar's test: a binomial test of the samples that flipped."""
    if not gained + lost:
        return 1.0
    from scipy.stats import binomtest  # noqa: PLC0415 - an extra, and slow to import

    return float(binomtest(gained, gained + lost).pvalue)


def _wilcoxon(differences: Sequence[float]) -> float:
    if not any(differences):
        return 1.0
    from scipy import stats  # noqa: PLC0415 - an extra, and slow to import

    return float(stats.wilcoxon(differences).pvalue)


def adjusted(values: Sequence[float]) -> list[float]:
    """The same for many tests at once, after Benjamini and Hochberg."""
    if not values:
        return []
    from scipy.stats import false_discovery_control  # noqa: PLC0415 - an extra, and slow to import

    return [float(one) for one in false_discovery_control(values)]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One eval in two runs.

    Attributes:
        name: with its arguments, where a row of the grid tells them.
        adjusted: `paired.p` for as many tests as there are; None where nothing was tested.
    """

    name: str
    eval_set: str
    before: EvalFacts
    after: EvalFacts
    paired: Paired
    adjusted: float | None = None

    @property
    def change(self) -> float | None:
        """Of the main score; None where the two have not the same."""
        one, other = self.before.score, self.after.score
        if one is None or other is None or one.name != other.name:
            return None
        return other.value - one.value

    @property
    def way(self) -> str:
        """`up`, `down` or `same`; `alone` where there is nothing to compare."""
        change = self.change
        if change is None and self.paired.samples:
            change = len(self.paired.gained) - len(self.paired.lost)
        if change is None:
            return "alone"
        return "up" if change > 0 else "down" if change < 0 else "same"

    @property
    def same_arguments(self) -> bool:
        """Whether both were run with the same."""
        return self.before.command.arguments == self.after.command.arguments

    @property
    def note(self) -> str:
        """What to know when the two are compared."""
        if not self.same_arguments:
            return UNLIKE
        if self.before.row.state is not State.DONE or self.after.row.state is not State.DONE:
            return "not finished in both"
        return ""

    @property
    def key(self) -> str:
        """What names its flips, on the page and on the disk."""
        return _digest(f"{self.before.page} {self.after.page}")

    @property
    def flipped(self) -> tuple[str, ...]:
        """Ids of the flips that are listed, those that are wrong now first."""
        return (*self.paired.lost, *self.paired.gained)[:MOST_FLIPS]

    @property
    def unlisted(self) -> int:
        """How many flips are not listed."""
        return len(self.paired.gained) + len(self.paired.lost) - len(self.flipped)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two columns of a report, by their names, and the evals that both have.

    Attributes:
        p: of all paired samples together; None where it was not tested.
    """

    before: str
    after: str
    lines: Sequence[Line] = ()
    p: float | None = None

    @property
    def folder(self) -> str:
        """What names it on the disk, whatever its lines."""
        return _digest(f"{self.before}\n{self.after}")

    @property
    def path(self) -> str:
        """Of its page."""
        return f"compare/{self.folder}.html"

    def ways(self, way: str) -> int:
        """How many evals went that way."""
        return sum(line.way == way for line in self.lines)

    @property
    def gained(self) -> int:
        """Samples that were wrong and are right."""
        return sum(len(line.paired.gained) for line in self.lines)

    @property
    def lost(self) -> int:
        """Samples that were right and are wrong."""
        return sum(len(line.paired.lost) for line in self.lines)

    @property
    def samples(self) -> int:
        """Samples that both have."""
        return sum(line.paired.samples for line in self.lines)

    @property
    def same_arguments(self) -> bool:
        """Whether all evals were run with the same arguments in both."""
        return all(line.same_arguments for line in self.lines)


def compared(
    grid: Grid,
    prices: Prices | None,
    *,
    test: bool,
    visit: Callable[[Sequence[Cell | None], Mapping[Pair, Line]], None] | None = None,
) -> tuple[Grid, list[Comparison]]:
    """The same with what the logs say, and the comparisons of its columns.

    One eval is read at a time, in all columns, so that memory holds no more.

    Args:
        grid: as `grid_of` makes it.
        prices: of tokens.
        test: as for `compare`.
        visit: gets the cells of each row while they are read, and how they compare.
    """
    lines: dict[Pair, list[Line]] = {pair: [] for pair in pairs_of(grid)}
    rows = []
    for row in grid.rows:
        cells = [None if fact is None else cell_of(fact, prices) for fact in row.cells]
        found = {}
        for pair, earlier in lines.items():
            before, after = (cells[place] for place in pair)
            if before is not None and after is not None:
                found[pair] = _line_of(row, before, after, test=test)
                earlier.append(found[pair])
        if visit is not None:
            visit(cells, found)
        facts = [None if cell is None else cell.fact for cell in cells]
        rows.append(msgspec.structs.replace(row, cells=facts))
    columns = grid.columns
    comparisons = [_comparison(columns[a], columns[b], found) for (a, b), found in lines.items()]
    return msgspec.structs.replace(grid, rows=rows), comparisons


def pairs_of(grid: Grid) -> Iterator[Pair]:
    """Columns that are compared: those that have an eval in common."""
    count = len(grid.columns)
    for one, other in combinations(range(count), 2):
        both = any(row.cells[one] and row.cells[other] for row in grid.rows)
        if both and (count <= MOST_COLUMNS or one == 0):
            yield one, other


def _line_of(row: GridRow, before: Cell, after: Cell, *, test: bool) -> Line:
    one, other = before.fact, after.fact
    words = [row.name]
    if row.about:
        words.append(one.arguments)
        if one.arguments != other.arguments:
            words.append(f"\N{RIGHTWARDS ARROW} {other.arguments}")
    return Line(
        name=" ".join(words),
        eval_set=row.eval_set,
        before=one,
        after=other,
        paired=compare(_verdicts(before), _verdicts(after), test=test),
    )


def _verdicts(cell: Cell) -> Verdicts:
    index = cell.index
    return Verdicts(
        correct={k: v for k, v in zip(index.ids, index.correct, strict=True) if v is not None},
        scores={k: v for k, v in zip(index.ids, index.scores, strict=True) if v is not None},
    )


def _comparison(before: str, after: str, lines: Sequence[Line]) -> Comparison:
    """Put lines together, and adjust their p-values to their number."""
    tested = {place: line.paired.p for place, line in enumerate(lines) if line.paired.p is not None}
    values = dict(zip(tested, adjusted(list(tested.values())), strict=True))
    found = Comparison(
        before=before,
        after=after,
        lines=[
            msgspec.structs.replace(line, adjusted=values.get(place))
            for place, line in enumerate(lines)
        ],
    )
    if any(lines[place].paired.test == MCNEMAR for place in tested):
        found = msgspec.structs.replace(found, p=mcnemar(found.gained, found.lost))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

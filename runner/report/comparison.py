import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import msgspec

from runner.model import State
from runner.records.samples import SampleIndex
from runner.report.facts import UNLIKE, EvalFacts, LogFacts, Prices
from runner.report.grid import Grid, GridRow

"""Whether two runs of the same samples differ by more than chance, by scipy's tests."""

MCNEMAR = "exact McNemar test"

WILCOXON = "Wilcoxon signed-rank test"


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of the samples of one eval, by their ids.

    Attributes:
        correct: of those that are right or wrong.
        scores: of those that have a figure.
    """

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


def available() -> bool:
    """Whether scipy is installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - only when asked for

    return find_spec("scipy") is not None


def compare(before: Verdicts, after: Verdicts, *, test: bool) -> Paired:
    """Pair the samples of two runs, right and wrong where the logs say so, else their scores.

    Args:
        before: of one run.
        after: of the other.
        test: whether to test for significance, which needs scipy.
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
    return Paired(test=WILCOXON, samples=len(both), p=wilcoxon(differences) if test else None)


def mcnemar(gained: int, lost: int) -> float:
    """The exact form of McNemar's test: a binomial test of the samples that flipped."""
    if not gained + lost:
        return 1.0
    from scipy.stats import binomtest  # noqa: PLC0415 - an extra, and slow to import

    return float(binomtest(gained, gained + lost).pvalue)


def wilcoxon(differences: Sequence[float]) -> float:
    """Whether differences of pairs lie around nought; those that are nought do not count."""
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


# Flips of one eval that are listed.
MOST_FLIPS = 500

# What counts as more than chance.
LEVEL = 0.05


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One eval in two runs.

    Attributes:
        name: the eval's, as the tables have it.
        eval_set: its eval set.
        before: the one that is compared with.
        after: the other.
        paired: what became of the samples that both have.
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
        return hashlib.sha256(f"{self.before.page} {self.after.page}".encode()).hexdigest()[:16]

    @property
    def flipped(self) -> tuple[str, ...]:
        """Ids of the flips that are listed, those that are wrong now first."""
        return (*self.paired.lost, *self.paired.gained)[:MOST_FLIPS]

    @property
    def flips(self) -> int:
        """How many are listed."""
        return len(self.flipped)

    @property
    def unlisted(self) -> int:
        """How many are not."""
        return len(self.paired.gained) + len(self.paired.lost) - self.flips


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two columns of a report.

    Attributes:
        before: the first one's name.
        after: the second one's.
        lines: the evals that both have.
        p: of all paired samples together; None where it was not tested.
    """

    before: str
    after: str
    lines: Sequence[Line]
    p: float | None

    @property
    def folder(self) -> str:
        """What names it on the disk."""
        return hashlib.sha256(f"{self.before}\n{self.after}".encode()).hexdigest()[:16]

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
    def unlike(self) -> int:
        """Evals that were not run with the same arguments."""
        return sum(not line.same_arguments for line in self.lines)

    @property
    def lead(self) -> str:
        """What came out of it, in a few sentences."""
        if not self.unlike:
            return self._found
        evals = "1 eval was" if self.unlike == 1 else f"{self.unlike:,} evals were"
        return f"{self._found} {evals} not run with the same arguments in both."

    @property
    def _found(self) -> str:
        ways = f"{self.ways('up')} up, {self.ways('down')} down, {self.ways('same')} unchanged."
        flips = f"Of {self.samples:,} samples that both have, {self.gained + self.lost:,} flipped"
        if self.p is None:
            return f"{ways} {flips}."
        chance = "more than chance explains" if self.p < LEVEL else "which may be chance"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"  # noqa: PLR2004 - plain
        return f"{ways} {flips}: {chance if self.gained + self.lost else 'none'} ({p})."

    @property
    def method(self) -> str:
        """How it was tested."""
        tested = [line for line in self.lines if line.adjusted is not None]
        if not tested:
            return (
                "Not tested for significance: no samples could be paired, or scipy was not "
                "installed where this was made."
            )
        return (
            f"p is that of the {MCNEMAR} (two-sided, of the samples that flipped); where samples "
            f"have scores but no right and wrong, of the {WILCOXON}. Both are scipy's. The last "
            f"column is adjusted for {len(tested)} tests after Benjamini and Hochberg; "
            f"★ marks what is below {LEVEL}."
        )


def comparison(before: str, after: str, lines: Sequence[Line]) -> Comparison:
    """Put lines together, and adjust their p-values to their number."""
    tested = [line for line in lines if line.paired.p is not None]
    values = adjusted([line.paired.p for line in tested if line.paired.p is not None])
    known = {id(line): value for line, value in zip(tested, values, strict=True)}
    found = Comparison(
        before=before,
        after=after,
        lines=[msgspec.structs.replace(line, adjusted=known.get(id(line))) for line in lines],
        p=None,
    )
    if any(line.paired.test == MCNEMAR for line in tested):
        found = msgspec.structs.replace(found, p=mcnemar(found.gained, found.lost))
    return found


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
    known = fact.source.layout.log_paths(names)[:MOST_LOGS]
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

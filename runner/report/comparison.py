import hashlib
from collections.abc import Sequence

import msgspec

from runner.report.facts import UNLIKE, EvalFacts
from runner.report.paired import MCNEMAR, WILCOXON, Paired, adjusted, mcnemar

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
        return self.before.command[3:] == self.after.command[3:]

    @property
    def note(self) -> str:
        """What to know when the two are compared."""
        if not self.same_arguments:
            return UNLIKE
        if self.before.row.state != "done" or self.after.row.state != "done":
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

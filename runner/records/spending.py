"""What answers files add up to."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import EnvironmentFault
from runner.model import Command
from runner.records.answers import FIRST_ERROR, Reserved, Short, ShortLines, Usage, damage, opened
from runner.records.layout import Layout
from runner.records.run_lock import is_held

Visit = Callable[[Short], None]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What answers files add up to; each of their `requests` is one of the next three.

    Requests that nobody bills, such as those for the list of models, do not count.

    Attributes:
        requests: that were sent to a provider.
        answers: that came, were paid for, and are kept.
        failed: requests that cost nothing: without an answer, or answered by an error.
        perhaps_paid: requests of which nobody knows whether they were paid for; while a gateway
            works, those under way, too.
        replayed: answers on record that were given to an attempt once more.
        usage: tokens of the answers.
        usd: what they cost, as far as prices were known; None where none was.
        unpriced: tokens of answers whose price was not known.
        saved: what the replayed ones had cost, as `usd`.
        saved_tokens: and their tokens.
        reserved: what `perhaps_paid` may have cost at most.
        seconds: from sending to the end of each answer, added up.
    """

    requests: int = 0
    answers: int = 0
    failed: int = 0
    perhaps_paid: int = 0
    replayed: int = 0
    usage: Usage = Usage()
    usd: float | None = None
    unpriced: int = 0
    saved: float | None = None
    saved_tokens: int = 0
    reserved: Reserved = Reserved()
    seconds: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            requests=self.requests + other.requests,
            answers=self.answers + other.answers,
            failed=self.failed + other.failed,
            perhaps_paid=self.perhaps_paid + other.perhaps_paid,
            replayed=self.replayed + other.replayed,
            usage=self.usage + other.usage,
            usd=plus(self.usd, other.usd),
            unpriced=self.unpriced + other.unpriced,
            saved=plus(self.saved, other.saved),
            saved_tokens=self.saved_tokens + other.saved_tokens,
            reserved=Reserved(
                tokens=self.reserved.tokens + other.reserved.tokens,
                usd=plus(self.reserved.usd, other.reserved.usd),
            ),
            seconds=self.seconds + other.seconds,
        )


def plus(one: float | None, other: float | None) -> float | None:
    """The sum of what is known of two amounts."""
    if one is None or other is None:
        return one if other is None else other
    return one + other


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What an answers file adds up to.

    Attributes:
        spent: tokens of the answers, by model.
        unpriced: those of them of which no price was known.
        perhaps: model, and what was reserved, of each request that is perhaps paid, and of each
            answer that does not say what it took.
        recent: when, model, and tokens that were reserved, of each request sent from a moment on.
        damaged: a message for each line that cannot be read.
    """

    totals: Totals = Totals()
    spent: dict[str, Usage] = {}
    unpriced: dict[str, Usage] = {}
    perhaps: list[tuple[str, Reserved]] = []
    recent: list[tuple[str, str, int]] = []
    damaged: list[str] = []


def read_sums(path: Path, visit: Visit | None = None, *, since: str | None = None) -> Sums:
    """Read what an answers file adds up to; what is damaged is tolerated as by `read_answers`.

    Args:
        visit: is shown each answer that was paid for, once.
        since: from when on requests are `recent`, as lines have it; None is never.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    adding = _Adding(since)
    with opened(path) as file:
        lines = ShortLines(file)
        for line in (each.line for each in lines):
            if adding.take(line) and visit and line.status < FIRST_ERROR:
                visit(line)
    return Sums(**adding.sums(), damaged=damage(str(path), lines.damaged, lines.newer))


class _Cost(msgspec.Struct, frozen=True, gc=False):
    """What one answer cost."""

    tokens: int
    usd: float | None


class _Adding:
    """Adds up the lines of a file, each of which may be there twice, in whatever order."""

    def __init__(self, since: str | None) -> None:
        self._since = since
        self._recent: list[tuple[str, str, int]] = []
        self._unmeasured: list[tuple[str, Reserved]] = []
        # By id: what it cost, None for nothing; the line itself while nobody knows.
        self._found: dict[str, _Cost | Short | None] = {}
        # Ids of requests that nobody bills, such as those for the list of models.
        self._free: set[str] = set()
        self._replays: set[tuple[str, str]] = set()
        # By model: tokens in, out and cached.
        self._tokens: dict[str, list[int]] = {}
        self._without_price: dict[str, Usage] = {}
        self._usd: float | None = None
        self._unpriced = 0
        self._seconds = 0.0

    def take(self, line: Short) -> bool:
        """Take one line in; tell whether it is an answer that was not there before."""
        kind = line.kind
        if kind == "answer":
            return self._answer(line)
        if kind == "sent":
            if line.free:
                self._free.add(line.id)
                self._found.pop(line.id, None)
            else:
                self._found.setdefault(line.id, line)
            if self._since is not None and line.at >= self._since:
                self._recent.append((line.at, line.model, line.reserved.tokens))
        elif kind == "given":
            self._replays.add((line.id, line.attempt))
        elif kind == "returned":
            self._replays.discard((line.id, line.attempt))
        elif kind == "failed" and line.id not in self._free:
            before = self._found.setdefault(line.id, line)
            if line.billed is False and isinstance(before, Short):
                self._found[line.id] = None
        return False

    def _answer(self, line: Short) -> bool:
        sent = self._found.get(line.id, line)
        if line.id in self._free or not isinstance(sent, Short):
            return False
        if line.status >= FIRST_ERROR:
            self._found[line.id] = None
            return True
        tokens = 0
        if (usage := line.usage) is not None:
            tokens = usage.input + usage.output
            sums = self._tokens.setdefault(line.model, [0, 0, 0])
            sums[0] += usage.input
            sums[1] += usage.output
            sums[2] += usage.cached
        else:
            self._unmeasured.append((line.model, sent.reserved))
        if line.usd is None:
            self._unpriced += tokens
            if usage is not None:
                known = self._without_price.get(line.model, Usage())
                self._without_price[line.model] = known + usage
        else:
            self._usd = (self._usd or 0.0) + line.usd
        self._found[line.id] = _Cost(tokens, line.usd)
        self._seconds += line.seconds
        return True

    def sums(self) -> dict[str, Any]:
        """What they add up to, as the fields of `Sums`."""
        spent = {
            model: Usage(input=sums[0], output=sums[1], cached=sums[2])
            for model, sums in self._tokens.items()
        }
        open_ = [one for one in self._found.values() if isinstance(one, Short)]
        return {
            "unpriced": self._without_price,
            "recent": self._recent,
            "totals": self._totals(sum(spent.values(), start=Usage()), open_),
            "spent": spent,
            "perhaps": [*((one.model, one.reserved) for one in open_), *self._unmeasured],
        }

    def _totals(self, usage: Usage, open_: Sequence[Short]) -> Totals:
        costs = {name: one for name, one in self._found.items() if isinstance(one, _Cost)}
        replayed = [costs[name] for name, _ in self._replays if name in costs]
        return Totals(
            requests=len(self._found),
            answers=len(costs),
            failed=len(self._found) - len(costs) - len(open_),
            perhaps_paid=len(open_),
            replayed=len(replayed),
            usage=usage,
            usd=self._usd,
            unpriced=self._unpriced,
            saved=_sum(one.usd for one in replayed),
            saved_tokens=sum(one.tokens for one in replayed),
            reserved=Reserved(
                tokens=sum(one.reserved.tokens for one in open_),
                usd=_sum(one.reserved.usd for one in open_),
            ),
            seconds=self._seconds,
        )


def _sum(amounts: Iterable[float | None]) -> float | None:
    """What is known of them, added up; None where nothing is."""
    known = [amount for amount in amounts if amount is not None]
    return math.fsum(known) if known else None


class EvalSpent(msgspec.Struct, frozen=True, kw_only=True):
    """What the answers of one eval add up to.

    Attributes:
        eval: the resolved key; as far as the file's name has it where no plan has the eval.
        command: the first that has them; None where no plan has it.
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
    known: dict[Path, Command] = {}
    for planned in commands:
        known.setdefault(layout.answers_of(planned), planned)
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

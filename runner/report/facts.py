import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.errors import UsageError
from runner.model import Attempt, Command, Result, State
from runner.plan.selection import parse_shard
from runner.records.layout import Layout
from runner.records.run_file import RunFile
from runner.records.samples import Usage, reported
from runner.records.state import EvalState, RunState, in_words
from runner.registry.entries import parse_mapping
from runner.registry.resolve import matching
from runner.report.score import Score, main_score, spread
from runner.report.timeline import Span, Times, moment, times

# Prices are for this many tokens.
PER = 1_000_000

_KEYS = ("input", "output")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens of a model cost."""

    input: float
    output: float


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """A file of prices.

    Attributes:
        currency: as the file has it.
        models: by pattern of their names, in the file's order.
    """

    currency: str
    models: Mapping[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model: that of its own name, or else of the first pattern with it."""
        if model in self.models:
            return self.models[model]
        return next((self.models[one] for one in self.models if matching(one, [model])), None)

    def cost(self, model: str, prompt: int, completion: int) -> float | None:
        """What tokens cost; None where the model has no price."""
        price = self.of(model)
        if price is None:
            return None
        return (prompt * price.input + completion * price.output) / PER


def parse_prices(path: str, text: str) -> Prices:
    """Read a file of prices.

    Args:
        path: of the file, for messages.
        text: YAML, with a `currency` and under `models` an `input` and an `output` for each.

    Raises:
        UsageError: it is not of that form.
    """
    content = parse_mapping(path, text)
    if unknown := sorted(content.keys() - {"currency", "models"}):
        raise UsageError(f"{path}: unknown key `{unknown[0]}`; there are `currency` and `models`")
    currency = content.get("currency", "USD")
    if not isinstance(currency, str) or not currency.strip():
        raise UsageError(f"{path}: `currency` is no text such as USD")
    models = content.get("models")
    if not isinstance(models, dict) or not models:
        raise UsageError(f"{path}: `models` is missing; give an `input` and an `output` for each")
    return Prices(
        currency=currency.strip(),
        models={str(name): _price(f"{path}: `{name}`", one) for name, one in models.items()},
    )


def _price(where: str, content: Any) -> Price:  # noqa: ANN401 - YAML
    if not isinstance(content, dict) or content.keys() != set(_KEYS):
        raise UsageError(f"{where} takes `input` and `output`, each per million tokens")
    for key in _KEYS:
        value = content[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise UsageError(f"{where}: `{key}` is no price such as 2.5")
    return Price(input=float(content["input"]), output=float(content["output"]))


# Said of cells or runs that are compared all the same.
UNLIKE = "not the same arguments"

# Seconds; a record from elsewhere may claim anything.
_LONGEST = 1e9


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One model and eval set of a report.

    Attributes:
        layout: where its files are.
        note: what tells two runs of the same apart; empty otherwise.
        state: where it stands.
        commands: of the plan, in order, and others on record.
        rows: the state of each command.
    """

    layout: Layout
    note: str = ""
    state: RunState
    commands: Sequence[Command]
    rows: Sequence[EvalState]

    @property
    def model(self) -> str:
        """As given to the run."""
        return self.state.model

    @property
    def eval_set(self) -> str:
        """As given to the run."""
        return self.state.eval_set

    @property
    def column(self) -> str:
        """What its column is called."""
        return f"{self.model} ({self.note})" if self.note else self.model


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the logs of one eval say, apart from the samples themselves."""

    right: int = 0
    wrong: int = 0
    usage: Mapping[str, Usage] = {}
    unreadable: int = 0
    left_out: int = 0
    missing: int = 0


class EvalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One eval of one model, for every page that shows it.

    Attributes:
        page: sixteen hex digits that name its page, the same in every report of this run.
        source: where it is from.
        command: its identity.
        row: of the table.
        tried: its attempts, in order.
        shown: the attempt whose logs are shown; None where there is none.
        log: what these say.
        cost: by the prices; None where there are none for its tokens.
        unpriced: tokens that have no price.
        shard: `I/N`; empty where there was none.
    """

    page: str
    source: Source
    command: Command
    row: EvalState
    tried: Sequence[Attempt]
    shown: Attempt | None
    log: LogFacts = LogFacts()
    cost: float | None = None
    unpriced: int = 0
    shard: str = ""

    @property
    def arguments(self) -> str:
        """What was passed through to it, in words."""
        return in_words(self.command.arguments)

    @property
    def score(self) -> Score | None:
        """The figure that it is about."""
        return main_score(self.row.final_report)

    @property
    def spread(self) -> float | None:
        """The uncertainty of its score, where the log has one."""
        return spread(self.row.final_report)

    @property
    def tokens(self) -> Usage:
        """As the final report counts them, or else the log."""
        found = reported(self.row.final_report)
        return found if found.total else sum(self.log.usage.values(), Usage())

    @property
    def spans(self) -> list[Span]:
        """Its attempts on a timeline."""
        spans = (self._span(record) for record in self.tried)
        return [span for span in spans if span is not None]

    def _span(self, record: Attempt) -> Span | None:
        end = moment(record.ended_at)
        if end is None:
            return None
        duration = min(max(record.duration, 0), _LONGEST)
        start = moment(record.started_at)
        start = end - duration if start is None else min(start, end)
        return Span(
            page=self.page,
            eval=self.row.eval,
            model=self.source.column,
            host=record.host,
            shard=self.shard,
            state=record.result.state,
            reason=record.reason,
            start=start,
            end=end,
            duration=duration,
        )

    def with_log(self, log: LogFacts, prices: Prices | None) -> "EvalFacts":
        """The same with what its logs say, and what that costs."""
        found = msgspec.structs.replace(self, log=log)
        if prices is None:
            return found
        usage = dict(log.usage) or {"": found.tokens}
        costs = {
            one: prices.cost(self._billed(one), used.prompt, used.completion)
            for one, used in usage.items()
        }
        priced = [cost for cost in costs.values() if cost is not None]
        return msgspec.structs.replace(
            found,
            cost=sum(priced) if priced and found.tokens.total else None,
            unpriced=sum(used.total for one, used in usage.items() if costs[one] is None),
        )

    def _billed(self, model: str) -> str:
        """The model that prices are for: an API adds a date to the name that it was asked for."""
        own = self.source.model
        return own if not model or model.startswith(f"{own}-") else model


def facts_of(source: Source) -> list[EvalFacts]:
    """The evals of a source, in the order of its commands, without what their logs say."""
    tried: dict[Command, list[Attempt]] = {}
    for record in source.state.attempts:
        tried.setdefault(record.command, []).append(record)
    shards = _shards(source.state.run)
    return [
        EvalFacts(
            page=_page(source, command),
            source=source,
            command=command,
            row=row,
            tried=tried.get(command, []),
            shown=_shown(row, tried.get(command, [])),
            shard=shards.get(command, ""),
        )
        for command, row in zip(source.commands, source.rows, strict=True)
    ]


def _shown(row: EvalState, tried: Sequence[Attempt]) -> Attempt | None:
    successes = [record for record in tried if record.result is Result.SUCCESS]
    if row.state is State.DONE:
        return successes[-1] if successes else None
    return tried[-1] if tried else None


def _page(source: Source, command: Command) -> str:
    parts = [source.note, source.model, source.eval_set, command.key]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _shards(run: RunFile | None) -> dict[tuple[str, ...], str]:
    """The shard of each command, because a plan is dealt out in turn."""
    try:
        count = parse_shard(run.shard or "").count if run else 0
    except UsageError:  # none, or a file that something else has written
        count = 0
    if run is None or not count:
        return {}
    return {one: f"{place % count + 1}/{count}" for place, one in enumerate(run.commands)}


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
    states: dict[State, int]
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
        return self.states.get(State.DONE, 0)

    @property
    def others(self) -> str:
        """What is not finished, in words."""
        return ", ".join(
            f"{n} {state}" for state, n in self.states.items() if state is not State.DONE
        )

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
    order = (State.DONE, State.RUNNING, State.TO_DO, State.LOST, State.FAILED)
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

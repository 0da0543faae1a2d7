import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.gateway.prices import Prices
from runner.model import Attempt, Command, Result, State
from runner.plan.pins import RunFile
from runner.plan.plan import parse_shard
from runner.records.samples import LoggedUsage, SampleIndex, reported
from runner.records.state import EvalState, RunState, in_words
from runner.report.figures import Results, Score, main_score, spread
from runner.report.model_use import ModelUse, read_asked, together
from runner.report.timeline import Span, Times, moment, times

# Logs of one attempt; an eval that leaves more has nothing for people in them.
MOST_LOGS = 100

# Seconds; a record from elsewhere may claim anything.
_LONGEST = 1e9


class Source(Results, frozen=True, kw_only=True):
    """One model and eval set of a report, with a row for each command of its state.

    Attributes:
        note: what tells two runs of the same apart; empty otherwise.
    """

    note: str = ""
    state: RunState

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
    usage: Mapping[str, LoggedUsage] = {}
    unreadable: int = 0
    events_left_out: int = 0
    missing: int = 0


class EvalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One eval of one model, for every page that shows it.

    Attributes:
        page: sixteen hex digits that name its page, the same in every report of this run.
        row: of the table.
        attempts: all of them, in order.
        attempt: the one whose logs are shown; None where there is none.
        log: what these say.
        cost: by the prices; None where there are none for its tokens.
        unpriced: tokens that have no price.
        shard: `I/N`; empty where there was none.
        answers: its answers file; None where an eval before it has the same one.
        asked: what that says it asked of its model, in all attempts; None without answers.
    """

    page: str
    source: Source
    command: Command
    row: EvalState
    attempts: Sequence[Attempt]
    attempt: Attempt | None
    log: LogFacts = LogFacts()
    cost: float | None = None
    unpriced: int = 0
    shard: str = ""
    answers: Path | None = None
    asked: ModelUse | None = None

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
    def tokens(self) -> LoggedUsage:
        """As the final report counts them, or else the log."""
        found = reported(self.row.final_report)
        return found if found.total else sum(self.log.usage.values(), LoggedUsage())

    @property
    def spans(self) -> list[Span]:
        """Its attempts on a timeline."""
        spans = []
        for attempt in self.attempts:
            start, end = moment(attempt.started_at), moment(attempt.ended_at)
            if end is None:
                continue
            duration = min(max(attempt.duration, 0), _LONGEST)
            span = Span(
                page=self.page,
                eval=self.row.eval,
                model=self.source.column,
                host=attempt.host,
                shard=self.shard,
                state=attempt.result.state,
                reason=attempt.reason,
                start=end - duration if start is None else min(start, end),
                end=end,
                duration=duration,
            )
            spans.append(span)
        return spans

    def with_log(self, log: LogFacts, prices: Prices | None) -> "EvalFacts":
        """The same with what its logs say, and what that costs."""
        found = msgspec.structs.replace(self, log=log)
        if prices is None:
            return found
        own, priced, unpriced = self.source.model, [], 0
        for model, usage in (log.usage or {"": found.tokens}).items():
            # An API adds a date to the name that it was asked for.
            billed = own if not model or model.startswith(f"{own}-") else model
            price = prices.of(billed)
            if price is None:
                unpriced += usage.total
            else:
                priced.append(price.cost(input=usage.prompt, output=usage.completion))
        cost = sum(priced) if priced and found.tokens.total else None
        return msgspec.structs.replace(found, cost=cost, unpriced=unpriced)


class Cell(msgspec.Struct, frozen=True):
    """An eval, and where its samples are."""

    fact: EvalFacts
    index: SampleIndex


def facts_of(source: Source) -> list[EvalFacts]:
    """The evals of a source, in the order of its commands, without what their logs say."""
    attempts: defaultdict[Command, list[Attempt]] = defaultdict(list)
    for attempt in source.state.attempts:
        attempts[attempt.command].append(attempt)
    shards = _shards(source.state.run)
    answers: dict[Path, Command] = {}
    for command in source.state.commands:
        answers.setdefault(source.layout.answers_of(command), command)
    of_command = {command: path for path, command in answers.items()}
    return [
        EvalFacts(
            page=_page(source, command),
            source=source,
            command=command,
            row=row,
            attempts=attempts[command],
            attempt=_newest(attempts[command], success=row.state is State.DONE),
            shard=shards.get(command, ""),
            answers=of_command.get(command),
        )
        for command, row in zip(source.state.commands, source.rows, strict=True)
    ]


def cell_of(fact: EvalFacts, prices: Prices | None) -> Cell:
    """Read the logs of an eval, and its answers."""
    names = fact.attempt.logs if fact.attempt is not None else ()
    known = fact.source.layout.log_paths(names)[:MOST_LOGS]
    paths = [path for path in known if os.access(path, os.R_OK)]
    index = SampleIndex(paths)
    log = LogFacts(
        right=sum(one is True for one in index.correct),
        wrong=sum(one is False for one in index.correct),
        usage=index.usage,
        unreadable=index.unreadable,
        events_left_out=index.events_left_out,
        missing=len(set(names)) - len(paths),
    )
    asked = None if fact.answers is None else read_asked(fact.answers, prices)
    return Cell(msgspec.structs.replace(fact.with_log(log, prices), asked=asked), index)


def _newest(attempts: Sequence[Attempt], *, success: bool) -> Attempt | None:
    if success:
        attempts = [one for one in attempts if one.result is Result.SUCCESS]
    return attempts[-1] if attempts else None


def _page(source: Source, command: Command) -> str:
    parts = [source.note, source.model, source.eval_set, command.key]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _shards(run: RunFile | None) -> dict[tuple[str, ...], str]:
    """The shard of each command, because a plan is dealt out in turn."""
    if run is None:
        return {}
    try:
        count = parse_shard(run.shard or "").count
    except UsageError:  # none, or a file that something else has written
        return {}
    return {one: f"{place % count + 1}/{count}" for place, one in enumerate(run.commands)}


class EvalTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Evals of a report, taken together.

    Attributes:
        states: how many are in each state, those that ask for attention last.
        samples: in the logs that are shown, as are `right`, `wrong` and `tokens`.
        cost: by the prices; None without.
        unpriced: tokens that have no price.
        attempts: how many ended.
        asked: of their models; None without answers on record.
    """

    evals: int
    states: dict[State, int]
    samples: int
    right: int
    wrong: int
    tokens: LoggedUsage
    cost: float | None
    unpriced: int
    attempts: int
    times: Times
    asked: ModelUse | None

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


def totals_of(facts: Sequence[EvalFacts]) -> EvalTotals:
    """Take evals together."""
    counts = Counter(fact.row.state for fact in facts)
    order = (State.DONE, State.RUNNING, State.TO_DO, State.LOST, State.FAILED)
    costs = [fact.cost for fact in facts if fact.cost is not None]
    return EvalTotals(
        evals=len(facts),
        states={state: counts[state] for state in order if counts[state]},
        samples=sum(fact.row.samples for fact in facts),
        right=sum(fact.log.right for fact in facts),
        wrong=sum(fact.log.wrong for fact in facts),
        tokens=sum((fact.tokens for fact in facts), LoggedUsage()),
        cost=sum(costs) if costs else None,
        unpriced=sum(fact.unpriced for fact in facts),
        attempts=sum(len(fact.attempts) for fact in facts),
        times=times([span for fact in facts for span in fact.spans]),
        asked=together(fact.asked for fact in facts),
    )

import hashlib
import json
from collections.abc import Mapping, Sequence

import msgspec

from runner.errors import UsageError
from runner.job import Result, key_of
from runner.plan.prices import Prices
from runner.plan.shard import parse_shard
from runner.record.attempts import AttemptRecord
from runner.record.layout import Layout
from runner.record.run_file import RunFile
from runner.record.samples import Usage, reported
from runner.report.rows import STATE_OF, Row, arguments_of
from runner.report.score import Score, main_score, spread
from runner.report.timeline import Span, moment

# Of cells or runs that stand beside each other all the same.
UNLIKE = "not the same arguments"
# Seconds; a record from elsewhere may claim anything.
_LONGEST = 1e9


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One model and eval set of a report.

    Attributes:
        layout: where its files are.
        model: as given to the run.
        eval_set: as given to the run.
        note: what tells two runs of the same apart; empty else.
        run: what the last run was pinned to.
        commands: of the plan, in order, and others on record.
        rows: the state of each command.
        records: every attempt.
        damaged: a message for each line that cannot be read.
    """

    layout: Layout
    model: str
    eval_set: str
    note: str = ""
    run: RunFile | None
    commands: Sequence[tuple[str, ...]]
    rows: Sequence[Row]
    records: Sequence[AttemptRecord]
    damaged: Sequence[str] = ()

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
    command: tuple[str, ...]
    row: Row
    tried: Sequence[AttemptRecord]
    shown: AttemptRecord | None
    log: LogFacts = LogFacts()
    cost: float | None = None
    unpriced: int = 0
    shard: str = ""

    @property
    def arguments(self) -> str:
        """What was passed through to it, in words."""
        return arguments_of(self.command)

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

    def _span(self, record: AttemptRecord) -> Span | None:
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
            state=STATE_OF[record.result],
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
    tried: dict[tuple[str, ...], list[AttemptRecord]] = {}
    for record in source.records:
        tried.setdefault(record.command, []).append(record)
    shards = _shards(source.run)
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


def _shown(row: Row, tried: Sequence[AttemptRecord]) -> AttemptRecord | None:
    successes = [record for record in tried if record.result is Result.SUCCESS]
    if row.state == "done":
        return successes[-1] if successes else None
    return tried[-1] if tried else None


def _page(source: Source, command: tuple[str, ...]) -> str:
    parts = [source.note, source.model, source.eval_set, key_of(command)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _shards(run: RunFile | None) -> dict[tuple[str, ...], str]:
    """The shard of each command, for a plan is dealt out in turn."""
    try:
        count = parse_shard(run.shard or "").count if run else 0
    except UsageError:  # none, or a file that something else has written
        count = 0
    if run is None or not count:
        return {}
    return {one: f"{place % count + 1}/{count}" for place, one in enumerate(run.commands)}

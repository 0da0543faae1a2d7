from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gateway.prices import parse_prices
from runner.plan.pins import RunFile
from runner.records.layout import Layout
from runner.records.progress import Finished
from runner.records.samples import LoggedUsage
from runner.records.state import RunState
from runner.report.comparison import Grid, grid_of
from runner.report.facts import EvalFacts, LogFacts, Source, facts_of
from runner.report.figures import spread
from tests.outcomes import failure, job, success

PRICES = parse_prices("f", "models: {m: {input: 1, output: 2}, grader*: {input: 10, output: 20}}")
MILLION = 1_000_000


def source(*names: str, model: str = "m", note: str = "", **run: Any) -> Source:  # noqa: ANN401 - any field
    """A run of evals, of which each has succeeded."""
    jobs = [job(*name.split()) for name in names]
    records = tuple(success(one) for one in jobs)
    commands = [one.command for one in jobs]
    file = RunFile(
        run="r",
        model=model,
        eval_set="s",
        image="i",
        image_id="i",
        commands=tuple(commands),
        limits={},
        **run,
    )
    state = RunState(
        model=model,
        eval_set="s",
        run=file,
        finished=Finished(commands=tuple(commands)),
        attempts=records,
    )
    return Source(
        layout=Layout(root=Path("/nowhere"), model=model, eval_set="s"),
        note=note,
        state=state,
        rows=state.evals(),
    )


def shown(grid: Grid) -> list[tuple[str, str, list[str | None]]]:
    """The rows of a grid: name, what is told of it, and the arguments of each cell."""
    return [
        (row.name, row.about, [cell.arguments if cell else None for cell in row.cells])
        for row in grid.rows
    ]


def one(**usage: LoggedUsage) -> EvalFacts:
    (fact,) = facts_of(source("a"))
    return fact.with_log(LogFacts(usage=usage), PRICES)


def test_each_call_is_billed_by_its_model() -> None:
    """A grader's tokens have the grader's price."""
    found = one(m=LoggedUsage(MILLION, MILLION), grader=LoggedUsage(MILLION, 0))
    assert (found.cost, found.unpriced) == (1 + 2 + 10, 0)


def test_a_dated_name_is_that_of_the_run() -> None:
    """An API answers with the version that it used; another model's name is not the run's."""
    found = one(**{"m-0613": LoggedUsage(MILLION, 0), "m2": LoggedUsage(7, 0)})
    assert (found.cost, found.unpriced) == (1, 7)


def test_tokens_without_a_price_cost_nobody_knows() -> None:
    """That is not nothing."""
    found = one(other=LoggedUsage(MILLION, 0))
    assert (found.cost, found.unpriced) == (None, MILLION)


def test_shards_follow_from_the_plan() -> None:
    """It is dealt out in turn; the file has the shard of one of the runs."""
    assert [each.shard for each in facts_of(source("a", "b", "c", shard="2/2"))] == [
        "1/2",
        "2/2",
        "1/2",
    ]
    assert [each.shard for each in facts_of(source("a", shard="odd"))] == [""]


def test_a_page_keeps_its_name() -> None:
    """Whatever else is in a report; the same of another run has another."""
    (alone,) = facts_of(source("a"))
    among = {fact.page for fact in facts_of(source("b", "a", "c"))}
    assert alone.page in among
    others = [source("a", model="n"), source("a", note="before"), source("a --seed 3")]
    pages = [fact.page for other in others for fact in facts_of(other)]
    assert len({alone.page, *pages}) == 4


def test_equal_arguments_stand_side_by_side() -> None:
    """Whatever the order of the plans; the arguments of an eval with several rows are told."""
    grid = grid_of([source("a --seed 3", "b", "a"), source("a", "b", model="n")])
    assert list(grid.columns) == ["m", "n"]
    assert shown(grid) == [
        ("a", "--seed 3", ["--seed 3", None]),
        ("b", "", ["without arguments"] * 2),
        ("a", "without arguments", ["without arguments"] * 2),
    ]


def test_what_has_no_equal_stands_next_to_what_has_none_either() -> None:
    """That its arguments differ is told, also where it is the only row of its eval."""
    grid = grid_of([source("a", "a --seed 3", "b"), source("b -x", "a --seed 4", "a", model="n")])
    assert shown(grid) == [
        ("a", "without arguments", ["without arguments"] * 2),
        ("a", "not the same arguments", ["--seed 3", "--seed 4"]),
        ("b", "not the same arguments", ["without arguments", "-x"]),
    ]


def test_a_third_run_with_other_arguments_stands_next_to_two_equal_ones() -> None:
    """It has the eval in common with each of them."""
    grid = grid_of([source("a"), source("a -x", model="n"), source("a", model="o")])
    assert shown(grid) == [
        ("a", "not the same arguments", ["without arguments", "-x", "without arguments"])
    ]


@given(st.lists(st.lists(st.sampled_from(["", " -x", " -y", " -z"]), unique=True), max_size=4))
def test_no_eval_is_lost_and_no_equal_one_is_passed_by(runs: list[list[str]]) -> None:
    """Every command has one cell, and equal ones have one row."""
    drawn = [source(*(f"a{one}" for one in run), model=f"m{n}") for n, run in enumerate(runs)]
    grid = grid_of(drawn)
    assert len(grid.facts) == sum(map(len, runs))
    places = {
        (place, fact.arguments) for place, row in enumerate(grid.rows) for fact in row.cells if fact
    }
    assert len(places) == len({one for run in runs for one in run})


def test_answers_that_two_rows_share_count_once() -> None:
    """More samples use the answers of fewer, which lie in one file."""
    few, more, other = facts_of(source("a --max_samples 2", "a", "a -x"))
    assert few.answers == few.source.layout.answers_of(more.command)
    assert more.answers is None
    assert other.answers not in (None, few.answers)


def test_a_time_from_elsewhere_may_be_anything() -> None:
    """It is kept within what can be drawn."""
    before = source("a")
    odd = tuple(
        failure(job("a"), ended_at=at, duration=1e300)
        for at in ("0001-01-01T00:00:00Z", "never", "2026-01-01T00:00:00Z")
    )
    state = msgspec.structs.replace(before.state, attempts=odd)
    (fact,) = facts_of(msgspec.structs.replace(before, state=state))
    assert len(fact.spans) == 2
    assert all(span.end - span.start <= 1e9 for span in fact.spans)


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ({"accuracy": 0.5, "boostrap_std": 0.1}, 0.1),
        ({"accuracy": 0.5, "bootstrap_std": 0.2, "accuracy_stderr": 0.3}, 0.3),
        ({"score": 3, "score_std": 1, "std": 2}, 1),
        ({"accuracy": 0.5, "f1_score_std": 0.1}, None),
        ({"boostrap_std": 0.1}, None),
        ({"accuracy": 0.5, "std": float("nan")}, None),
        (None, None),
    ],
)
def test_the_uncertainty_is_what_the_report_has(
    report: dict[str, object] | None, found: float | None
) -> None:
    """Its own first; none is worked out."""
    assert spread(report) == found

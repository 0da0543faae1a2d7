from pathlib import Path

import pytest

from runner.gateway.prices import Price, Prices
from runner.report.model_use import ModelUse, read_asked, together
from runner.report.timeline import PARTS, PAUSE, stretches
from tests.answered import START, Answered

COMMAND = ["oaieval", "m", "e"]
PRICES = Prices(currency="EUR", models={"m": Price(input=10, output=100)})


@pytest.fixture
def one(tmp_path: Path) -> Answered:
    return Answered(tmp_path, COMMAND, model="m", eval_set="s")


def asked(one: Answered, prices: Prices | None = None) -> ModelUse:
    found = read_asked(one.path, prices)
    assert found
    return found


def test_nothing_is_said_without_answers(one: Answered) -> None:
    """The eval ran without the gateway, or not at all."""
    assert read_asked(one.path, None) is None
    assert together([None, None]) is None


def test_how_long_answers_took(one: Answered) -> None:
    """Half of them, and nearly all."""
    for seconds in (0.5, 3.0, *[0.25] * 18):
        one.paid(seconds=seconds)
    found = asked(one)
    assert (found.median, found.within(0.94), found.within(0.95), found.within(1)) == (
        0.25,
        0.5,
        3.0,
        3.0,
    )
    assert ModelUse().median is None


def test_an_answer_costs_what_the_run_knew(one: Answered) -> None:
    """In dollars; what had no price is told."""
    one.paid(2, usd=0.5)
    one.paid(tokens=(60, 10))
    one.replayed()
    found = asked(one)
    assert (found.cost, found.currency, found.unpriced, found.saved) == (1.0, "USD", 70, 0.5)


def test_prices_of_the_report_come_first(one: Answered) -> None:
    """For all answers alike, in their currency, in which nothing is known to be saved."""
    one.paid(usd=0.5, tokens=(1_000_000, 10_000))
    one.paid(tokens=(1_000_000, 0))
    one.replayed()
    found = asked(one, PRICES)
    assert (found.cost, found.currency, found.unpriced, found.saved) == (21.0, "EUR", 0, None)
    none = asked(one, Prices(currency="EUR", models={"other": Price(input=1, output=1)}))
    assert (none.cost, none.unpriced) == (None, 2_010_000)


def test_what_evals_asked_adds_up(tmp_path: Path, one: Answered) -> None:
    """Those without answers add nothing."""
    other = Answered(tmp_path, [*COMMAND, "--seed=1"], model="m", eval_set="s")
    one.paid(usd=0.5, seconds=2)
    one.failed()
    other.paid(2, seconds=1)
    other.sent()
    other.replayed()
    found = together([asked(one), None, asked(other)])
    assert found
    assert (found.totals.requests, found.cost, found.unpriced) == (5, 0.5, 140)
    assert list(found.seconds) == [1, 1, 2]
    assert len(found.moments) == 3
    assert found.about == "1 replayed, 1 failed, 1 perhaps paid"


def test_damage_is_told(one: Answered) -> None:
    """A line; or the whole file, which is then as good as empty."""
    one.paid()
    one.path.write_bytes(b"{\n" + one.path.read_bytes())
    found = asked(one)
    assert found.totals.answers == 1
    (message,) = found.damaged
    assert "line 1" in message
    one.path.unlink()
    one.path.mkdir()
    found = asked(one)
    assert found.totals.answers == 0
    assert "it is a folder" in found.damaged[0]


def test_answers_are_counted_over_time(one: Answered) -> None:
    """In equal parts of the time in which there were some; a long pause parts them."""
    one.paid(3, seconds=1)
    moments = asked(one).moments
    assert list(moments) == [START.timestamp() + 2 * place for place in (1, 2, 3)]
    later = moments[-1] + PAUSE + 1
    first, second = stretches([], [*moments, later, later])
    assert (first.start, first.end, first.hosts) == (moments[0], moments[-1], [])
    assert (len(first.requests), sum(first.requests)) == (PARTS, 3)
    assert [(column.left, column.height) for column in first.columns] == [
        (0, 1),
        (0.5, 1),
        (1 - 1 / PARTS, 1),
    ]
    assert [column.count for column in second.columns] == [2]
    assert second.start == second.end == later

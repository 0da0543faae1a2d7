from pathlib import Path

import pytest

from runner.hosts.ledger import Ledger, StartedThere, read_ledger
from runner.records.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="m", eval_set="s")


def started(*attempts: str) -> list[StartedThere]:
    return [StartedThere(attempt=each, host="a", job="j") for each in attempts]


def test_an_attempt_that_is_over_stays_known_until_its_host_has_nothing_of_it(
    layout: Layout,
) -> None:
    """A host that was away still has what was recorded as lost."""
    ledger = Ledger(layout, is_over=lambda _: False)
    ledger.start(started("1", "2", "3"))
    ledger.settled("1")
    ledger.end(is_over=lambda attempt: attempt in {"1", "2"})
    assert set(read_ledger(layout).started) == {"2", "3"}
    again = Ledger(layout, is_over=lambda attempt: attempt in {"1", "2"})
    assert set(again.started) == {"3"}
    assert set(again.left) == {"2"}
    again.has("b", [])
    again.has("a", ["2"])
    again.end(is_over=lambda attempt: attempt == "2")
    assert set(read_ledger(layout).started) == {"2", "3"}


def test_what_a_host_does_not_have_any_more_is_forgotten(layout: Layout) -> None:
    """It may have said so to a run that was killed."""
    ledger = Ledger(layout, is_over=lambda _: False)
    ledger.start(started("1", "2"))
    ledger.end(is_over=lambda _: True)
    again = Ledger(layout, is_over=lambda _: True)
    again.has("a", ["2"])
    again.end(is_over=lambda _: True)
    assert set(read_ledger(layout).started) == {"2"}

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.figures import Score, dollars, main_score, money

anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none())


@pytest.mark.parametrize(
    ("report", "score"),
    [
        (None, None),
        ({}, None),
        ({"accuracy": 0.5, "boostrap_std": 0.1}, Score("accuracy", 0.5)),
        ({"usage_total_tokens": 7, "f1_score": 0.2, "accuracy": 1}, Score("accuracy", 1)),
        ({"num_samples": 3, "stderr": 1, "my_figure": 2}, Score("my_figure", 2)),
        ({"counts/Y": 3, "usage_total_tokens": 7}, None),
        ({"accuracy": True, "score": "high", "metascore": None}, None),
        ({"accuracy": float("nan"), "score": 0.25}, Score("score", 0.25)),
        ({"accuracy": 10**400}, None),
    ],
)
def test_the_figure_that_an_eval_is_about_is_found(
    report: dict[str, Any] | None, score: Score | None
) -> None:
    """The usual names come first, and what only describes another figure is none."""
    assert main_score(report) == score


@given(report=st.dictionaries(st.sampled_from(["accuracy", "score"]) | st.text(), anything))
def test_no_report_is_too_strange(report: dict[str, Any]) -> None:
    """An eval's code may report anything; what is found can be shown."""
    found = main_score(report)
    assert found is None or f"{found.value:.3g}" not in {"nan", "inf", "-inf"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.00"),
        (1234.5, "1,234.50"),
        (0.5, "0.5000"),
        (0.0123, "0.0123"),
        (0.00345, "0.0034"),
        (0.000345, "0.00034"),
        (0.000012, "0.000012"),
        (1e-300, "0.000000000000"),
    ],
)
def test_an_amount_that_was_paid_is_not_shown_as_nothing(value: float, shown: str) -> None:
    """Two digits of it are seen, however small it is, within reason."""
    assert dollars(value) == f"${shown}"
    assert money(value, "EUR") == f"{shown} EUR"

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gateway.rates import (
    LONGEST_PAUSE,
    RESET,
    Remaining,
    pause_of,
    requests_left,
    tokens_left,
)

NOON = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
WALL = NOON.timestamp()
IN_20 = datetime(2030, 1, 31, 12, 0, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": format_datetime(IN_20, usegmt=True)}, 20),
        ({"retry-after": "Thu, 31 Jan 2030 11:59:00 GMT"}, 0),
        ({"retry-after": "Thu, 31 Jan 2030 13:00:20 +0100"}, 20),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 30}, LONGEST_PAUSE),
    ],
)
def test_a_pause_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """In milliseconds first; what is none of these says nothing."""
    assert pause_of(headers, WALL) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("20ms", 0.02),
        ("1s", 1),
        ("0m1.5s", 1.5),
        ("6m0s", RESET),
        ("3", 3),
        ("2030-01-31T12:00:20Z", 20),
        ("2030-01-31T11:00:00+00:00", 0),
        ("2030-01-31T12:00:20", 20),
        ("", RESET),
        ("whenever", RESET),
        ("1.2.3s", 0),
    ],
)
def test_what_is_left_comes_back_after_a_while(reset: str, seconds: float) -> None:
    """In OpenAI's notation, in seconds or at a time; never later than after a minute."""
    for remaining, at in (
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ):
        left = requests_left({remaining: "3", at: reset}, WALL)
        assert left is not None
        assert left.count == 3
        assert left.reset == pytest.approx(seconds)


def test_tokens_have_headers_of_their_own() -> None:
    """Besides those of requests."""
    headers = {"x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "4s"}
    assert tokens_left(headers, WALL) == Remaining(900, 4)
    assert requests_left(headers, WALL) is None
    assert tokens_left({"anthropic-ratelimit-tokens-remaining": "-1"}, WALL) == Remaining(0, RESET)


@pytest.mark.parametrize("text", ["", "many", "1.5", "9" * 16])
def test_a_count_that_is_none_says_nothing(text: str) -> None:
    """As if the header were not there."""
    assert requests_left({"x-ratelimit-remaining-requests": text}, WALL) is None


@given(st.text(), st.text())
def test_no_header_breaks_it(first: str, second: str) -> None:
    """Whatever a provider sends."""
    pause_of({"retry-after-ms": first, "retry-after": second}, WALL)
    left = requests_left(
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": first}, WALL
    )
    assert left is not None
    assert 0 <= left.reset <= RESET

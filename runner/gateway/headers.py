"""What a provider's headers say about its limits, without input or output."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

# Seconds; a longer pause is not believed, and taken for one of a day.
LONGEST_PAUSE = 86_400.0

# Seconds after which what is used up is taken to be available again, if no header says when, and at
# most: by then an attempt tells more than an old answer.
RESET = 60.0

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

# OpenAI's names, which most others have, and Anthropic's.
_REQUESTS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
)
_TOKENS = (
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)


class Remaining(msgspec.Struct, frozen=True):
    """How much a provider still accepts, and in how many seconds it accepts more."""

    count: int
    reset: float


def pause_of(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds in which a provider wants no requests, by `retry-after-ms` or `Retry-After`.

    Args:
        headers: by names in small letters, or a mapping that ignores case.
        wall: seconds since 1970, by this host's clock.

    Returns:
        None if it does not say, or its value is not possible.
    """
    seconds = _number(headers.get("retry-after-ms", ""), scale=0.001)
    if seconds is None:
        text = headers.get("retry-after", "")
        seconds = _number(text)
        if seconds is None:
            seconds = _until(_http_date(text), wall)
    return None if seconds is None else min(seconds, LONGEST_PAUSE)


def requests_left(headers: Mapping[str, str], wall: float) -> Remaining | None:
    """How many requests a provider still accepts; the arguments are those of `pause_of`."""
    return _left(headers, wall, _REQUESTS)


def tokens_left(headers: Mapping[str, str], wall: float) -> Remaining | None:
    """How many tokens a provider still accepts; the arguments are those of `pause_of`."""
    return _left(headers, wall, _TOKENS)


def _left(
    headers: Mapping[str, str], wall: float, names: tuple[tuple[str, str], ...]
) -> Remaining | None:
    for remaining, reset in names:
        if (text := headers.get(remaining)) and re.fullmatch(r"-?[0-9]{1,15}", text):
            return Remaining(max(int(text), 0), _reset(headers.get(reset, ""), wall))
    return None


def _reset(text: str, wall: float) -> float:
    """The seconds until a limit is reset: `6m0s`, `120ms`, `1.5`, or a time in RFC 3339."""
    if re.fullmatch(r"(?:[0-9.]+(?:ms|[smhd]))+", text):
        parts = re.findall(r"([0-9.]+)(ms|[smhd])", text)
        numbers = [_number(number, scale=_UNITS[unit]) for number, unit in parts]
        seconds = sum(number for number in numbers if number is not None)
    elif (number := _number(text)) is not None:
        seconds = number
    elif (left := _until(_rfc3339(text), wall)) is not None:
        seconds = left
    else:
        seconds = RESET
    return min(seconds, RESET)


def _number(text: str, *, scale: float = 1.0) -> float | None:
    try:
        number = float(text) * scale
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(moment: datetime | None, wall: float) -> float | None:
    return None if moment is None else max(moment.timestamp() - wall, 0.0)


def _http_date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few providers send one

    try:
        return _in_utc(parsedate_to_datetime(text))
    except (ValueError, IndexError, OverflowError):
        return None


def _rfc3339(text: str) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(text))
    except ValueError:
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

"""What may be sent in a minute, by the user's limits and by what a provider's headers say.

It has no input or output. Times are in seconds of a monotonic clock.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice

import msgspec

from runner.errors import UsageError
from runner.units import Rate

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

# Seconds in which no more than the limit is sent: one more than a minute, because what is sent
# evenly may arrive unevenly.
WINDOW = 61.0

# The first pause after a refusal that does not say how long; each further one doubles it, up to the
# longest.
FIRST_PAUSE = 1.0
LONGEST_DOUBLED = 60.0

# Seconds after which a request that was sent as a test counts as accepted: refusals come
# immediately, answers may take minutes.
TRIAL = 5.0

# Entries of a window that one call looks at; for more, it is called again.
_LOOK = 100


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


def limits_of(rates: Iterable[Rate], option: str) -> dict[str, int]:
    """The limits by model; "" has that of all models together.

    Raises:
        UsageError: `option` gives two for one model.
    """
    limits: dict[str, int] = {}
    for rate in rates:
        if rate.model in limits:
            whose = f"`{rate.model}`" if rate.model else "all models"
            raise UsageError(f"{option} has two limits for {whose}", "leave one out")
        limits[rate.model] = rate.limit
    return limits


class SentAmount:
    """Something that was sent: when, and how much."""

    __slots__ = ("at", "size")

    def __init__(self, at: float, size: int) -> None:
        self.at = at
        self.size = size


class Window:
    """What was sent lately; no more than `limit` may be sent in any minute."""

    __slots__ = ("_entries", "_total", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: deque[SentAmount] = deque()
        self._total = 0

    def when(self, size: int, now: float) -> float:
        """When a size fits, as far as is known; `now` if it does already.

        A size larger than the limit is sent alone, when nothing else counts any more. It is an
        upper bound, and will probably turn out smaller.
        """
        self._pass(now)
        over = self._total + size - self.limit
        if over <= 0 or self._total == 0:
            return now
        last = self._entries[-1]
        for entry in islice(self._entries, _LOOK):
            over -= entry.size
            last = entry
            if over <= 0:
                break
        return last.at + WINDOW

    def add(self, entry: SentAmount) -> None:
        """Add something that is sent now, or at least not before the newest entry."""
        self._entries.append(entry)
        self._total += entry.size

    def change(self, entry: SentAmount, size: int, now: float) -> None:
        """Count an entry as `size`; the caller changes the entry itself, which windows share."""
        self._pass(now)
        if entry.at + WINDOW > now:
            self._total += size - entry.size

    def _pass(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].at + WINDOW <= now:
            self._total -= entries.popleft().size


class Mark:
    """The position of a request among those of its channel.

    Attributes:
        at: when it was sent.
        requests: how many had been sent by then, including itself.
        tokens: how many had been reserved by then, including its own.
    """

    __slots__ = ("at", "requests", "tokens")

    def __init__(self, at: float, requests: int, tokens: int) -> None:
        self.at = at
        self.requests = requests
        self.tokens = tokens


class _Rest:
    """What a provider still accepts, according to the answer to the newest request."""

    __slots__ = ("_left", "_mark", "until")

    def __init__(self) -> None:
        self._left = self._mark = 0
        self.until = 0.0

    def learn(self, mark: int, left: int, until: float) -> None:
        """Note what an answer says was left after the provider had taken its request."""
        if mark >= self._mark:
            self._mark, self._left, self.until = mark, left, until

    def when(self, size: int, sent: int, now: float) -> float:
        """When `size` fits into what is left after all that was sent since."""
        lacks = now < self.until and sent - self._mark + size > self._left
        return self.until if lacks else now


class Channel:
    """What a provider says about a model: a pause after a refusal, and what it still accepts."""

    def __init__(self) -> None:
        self._requests = 0
        self._tokens = 0
        self._requests_left = _Rest()
        self._tokens_left = _Rest()
        self._pause_ends = 0.0
        self._refusals = 0
        self._on_trial = False
        self._trial: Mark | None = None
        self._under_way = 0

    def when(self, tokens: int, now: float) -> float:
        """When a request may be sent, as far as is known; `now` if it may already."""
        if now < self._pause_ends:
            return self._pause_ends
        if self._on_trial and self._trial is not None:
            if now < self._trial.at + TRIAL:
                return self._trial.at + TRIAL
            self._accepted()
        return max(
            self._requests_left.when(1, self._requests, now),
            self._tokens_left.when(tokens, self._tokens, now),
        )

    def send(self, tokens: int, now: float) -> Mark:
        """Note that a request is sent; after a pause, the first one is a test."""
        self._under_way += 1
        self._requests += 1
        self._tokens += tokens
        mark = Mark(now, self._requests, self._tokens)
        if self._on_trial and self._trial is None:
            self._trial = mark
        return mark

    def answered(self, mark: Mark, headers: Mapping[str, str], now: float, wall: float) -> None:
        """A provider has begun to answer a request, and not with a refusal because of the rate."""
        if mark.at >= self._pause_ends:
            self._refusals = 0
        if mark is self._trial:
            self._accepted()
        if (left := requests_left(headers, wall)) is not None:
            self._requests_left.learn(mark.requests, left.count, now + left.reset)
        if (left := tokens_left(headers, wall)) is not None:
            self._tokens_left.learn(mark.tokens, left.count, now + left.reset)

    def refused(self, mark: Mark, headers: Mapping[str, str], now: float, wall: float) -> None:
        """A provider has refused a request because of the rate: send nothing until a pause is over.

        Of the requests that were under way when a pause began, only the first makes the next pause
        longer.
        """
        is_news = mark.at >= self._pause_ends
        self._refusals += is_news
        pause = pause_of(headers, wall)
        if not pause:
            doubled = FIRST_PAUSE * 2.0 ** (min(self._refusals, 10) - 1)
            pause = min(doubled, LONGEST_DOUBLED) if is_news else 0.0
        if now + pause > self._pause_ends:
            self._pause_ends = now + pause
            self._on_trial = True
            self._trial = None

    def ended(self, mark: Mark) -> None:
        """A request has ended; if it was a test and got no answer, the next one is the test."""
        self._under_way -= 1
        if mark is self._trial:
            self._trial = None

    def is_idle(self, now: float) -> bool:
        """Whether it may be forgotten: nothing is under way, paused or scarce."""
        until = max(self._pause_ends, self._requests_left.until, self._tokens_left.until)
        return not self._under_way and until <= now

    def _accepted(self) -> None:
        self._on_trial = False
        self._trial = None

"""What may be sent in a minute, by the user's limits and by what a provider says: pure.

Times are seconds of a clock that only grows.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice

from runner.errors import UsageError
from runner.gateway.headers import pause_of, requests_left, tokens_left
from runner.units import Rate

# Seconds in which no more than the limit is sent. They are one more than a minute, because what is
# sent evenly may arrive unevenly.
WINDOW = 61.0

# The first pause after a refusal that names none; each further one doubles it, up to the longest.
FIRST_PAUSE = 1.0
LONGEST_DOUBLED = 60.0

# Seconds after which a request that was sent to try is taken for accepted: refusals come at once,
# answers may take minutes.
TRIAL = 5.0

# Entries of a window that one question looks at; beyond them, it is asked again.
_LOOK = 100


def limits_of(rates: Iterable[Rate], option: str) -> dict[str, int]:
    """The limits by model; that of all models together is at "".

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


class Entry:
    """Something that was sent: when, and how much it counts."""

    __slots__ = ("at", "size")

    def __init__(self, at: float, size: int) -> None:
        self.at = at
        self.size = size


class Window:
    """What was sent lately, of which no more than `limit` may be sent in any minute."""

    __slots__ = ("_entries", "_total", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: deque[Entry] = deque()
        self._total = 0

    def when(self, size: int, now: float) -> float:
        """When so much fits, as far as is known; `now` if it does.

        What is larger than the limit goes alone, when nothing else counts any more: it was
        reserved by a bound, and is likely to come to less.
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

    def add(self, entry: Entry) -> None:
        """Something is sent, not earlier than all before it."""
        self._entries.append(entry)
        self._total += entry.size

    def change(self, entry: Entry, size: int, now: float) -> None:
        """What was sent counts `size`; the caller changes the entry, which windows share."""
        self._pass(now)
        if entry.at + WINDOW > now:
            self._total += size - entry.size

    def _pass(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].at + WINDOW <= now:
            self._total -= entries.popleft().size


class Mark:
    """Where a request stands among those of its channel.

    Attributes:
        at: when it was sent.
        requests: that had been sent by then, itself included.
        tokens: that had been reserved by then, its own included.
    """

    __slots__ = ("at", "requests", "tokens")

    def __init__(self, at: float, requests: int, tokens: int) -> None:
        self.at = at
        self.requests = requests
        self.tokens = tokens


class _Rest:
    """What a provider still takes, as the answer to the newest request said."""

    __slots__ = ("_left", "_mark", "until")

    def __init__(self) -> None:
        self._left = self._mark = 0
        self.until = 0.0

    def learn(self, mark: int, left: int, until: float) -> None:
        """An answer says what was left when the provider had taken all up to its request."""
        if mark >= self._mark:
            self._mark, self._left, self.until = mark, left, until

    def when(self, size: int, sent: int, now: float) -> float:
        """When `size` is no more than is left, after all that was sent since."""
        lacks = now < self.until and sent - self._mark + size > self._left
        return self.until if lacks else now


class Channel:
    """What one provider says of one model: a pause after a refusal, and what it still takes."""

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
        """When a request may be sent, as far as is known; `now` if it may."""
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
        """A request is sent; after a pause, the first one is there to try."""
        self._under_way += 1
        self._requests += 1
        self._tokens += tokens
        mark = Mark(now, self._requests, self._tokens)
        if self._on_trial and self._trial is None:
            self._trial = mark
        return mark

    def answered(self, mark: Mark, headers: Mapping[str, str], now: float, wall: float) -> None:
        """A provider has begun to answer a request, with anything but a refusal for its rate."""
        if mark.at >= self._pause_ends:
            self._refusals = 0
        if mark is self._trial:
            self._accepted()
        if (left := requests_left(headers, wall)) is not None:
            self._requests_left.learn(mark.requests, left.count, now + left.reset)
        if (left := tokens_left(headers, wall)) is not None:
            self._tokens_left.learn(mark.tokens, left.count, now + left.reset)

    def refused(self, mark: Mark, headers: Mapping[str, str], now: float, wall: float) -> None:
        """A provider has refused a request for its rate: nothing is sent until a pause is over.

        Of all that were under way when it began, only the first makes the next pause longer.
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
        """A request has come to its end; if it was there to try and had no answer, the next is."""
        self._under_way -= 1
        if mark is self._trial:
            self._trial = None

    def is_idle(self, now: float) -> bool:
        """Whether it may be forgotten: nothing is under way, no pause is on, nothing is scarce."""
        until = max(self._pause_ends, self._requests_left.until, self._tokens_left.until)
        return not self._under_way and until <= now

    def _accepted(self) -> None:
        self._on_trial = False
        self._trial = None

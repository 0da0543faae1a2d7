"""What a run may spend on its models, and how fast.

`Allowance` decides when a request may be sent, without input or output. Times are arguments, in
seconds of a monotonic clock.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from runner.errors import UsageError
from runner.gateway.prices import (
    ADD_IT,
    RAISE_BUDGET,
    Price,
    Prices,
    check_budget,
    no_price,
    read_prices,
)
from runner.gateway.rates import Channel, Mark, SentAmount, Window, limits_of
from runner.gateway.tokens import Bound
from runner.model import Problem
from runner.records.answers import Usage
from runner.units import Budget, Unit, amount_in_words

if TYPE_CHECKING:
    from runner.options import RunOptions

# A budget in dollars is counted in units of 1e-12 dollars, so that sums are exact.
_PARTS = 10**12

# Models and providers that are remembered, because an eval may name any number.
_MOST_NAMES = 1_000


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A request that an attempt wants to send.

    Attributes:
        bound: of its tokens.
    """

    attempt: str
    route: str
    model: str
    bound: Bound


class Reservation:
    """What is reserved for a request under way; it is ended once, by `settle` or `cancel`.

    Attributes:
        wish: the request.
        tokens: reserved, in and out.
        usd: reserved, in dollars; None where no price is known.
    """

    __slots__ = ("amount", "channel", "entry", "mark", "tokens", "usd", "wish")

    def __init__(
        self,
        wish: Wish,
        *,
        usd: float | None,
        amount: int,
        channel: Channel,
        mark: Mark,
        entry: SentAmount,
    ) -> None:
        self.wish = wish
        self.tokens = wish.bound.input + wish.bound.output
        self.usd = usd
        self.amount = amount
        self.channel = channel
        self.mark = mark
        self.entry = entry


class Go(msgspec.Struct, frozen=True):
    """The request may be sent, and is counted as sent from now on."""

    reservation: Reservation


class Wait(msgspec.Struct, frozen=True):
    """The request may not be sent yet.

    Attributes:
        until: when to ask again at the latest; None if only the end of another request helps.
        everyone: whether no other request may overtake it, because all wait for the same.
    """

    until: float | None
    everyone: bool


class Unaffordable(msgspec.Struct, frozen=True):
    """The request will never be sent, whatever those under way will cost.

    Attributes:
        why: the budget is used up or too small for it, or a price is missing.
        what: the reason, for people.
        cure: what they can do.
    """

    why: Literal[Problem.BUDGET, Problem.PRICE]
    what: str
    cure: str


Decision = Go | Wait | Unaffordable


class Allowance:
    """The money and the rates that all requests of a run share.

    What a request may cost at most is reserved before it is sent, so that requests whose bound
    holds never overspend a budget.

    Args:
        budget: None for no limit.
        spent: by earlier runs, in the budget's unit: what answers cost, and what was reserved for
            requests that may have been billed.
        prices: None if none are known; needed for a budget in dollars.
        rpm: the most requests in a minute, by model; "" for all models together.
        tpm: the most tokens in a minute, likewise.
    """

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        spent: float = 0,
        prices: Prices | None = None,
        rpm: Mapping[str, int] | None = None,
        tpm: Mapping[str, int] | None = None,
    ) -> None:
        self._budget = budget
        self._prices = prices
        self._limit = 0 if budget is None else math.floor(self._parts(budget.amount))
        self._spent = math.ceil(self._parts(spent))
        self._reserved = 0
        self._under_way: set[Reservation] = set()
        self._requests = {model: Window(limit) for model, limit in (rpm or {}).items()}
        self._tokens = {model: Window(limit) for model, limit in (tpm or {}).items()}
        self._channels: dict[tuple[str, str], Channel] = {}
        self._known_prices: dict[str, Price | None] = {}

    @property
    def spent(self) -> float:
        """What is spent, in the budget's unit, or in tokens without a budget."""
        return self._shown(self._spent)

    @property
    def reserved(self) -> float:
        """What is reserved for requests under way, in the same unit."""
        return self._shown(self._reserved)

    def ask(self, wish: Wish, now: float) -> Decision:
        """Decide about a request; if it may be sent, it counts from now on."""
        bound = Usage(input=wish.bound.input, output=wish.bound.output)
        usd = self.usd(wish.model, bound)
        if usd is None and self._is_in_dollars and bound.total:
            return Unaffordable(Problem.PRICE, no_price(wish.model), ADD_IT)
        amount = self._amount(bound, usd)
        if self._budget is not None and self._spent + amount > self._limit:
            return self._refused(amount, self._budget.unit, wish.bound)
        channel = self._channel(wish, now)
        own = max(channel.when(bound.total, now), self._fits(wish.model, bound.total, now))
        if own > now:
            return Wait(own, everyone=False)
        common = self._fits("", bound.total, now)
        if common > now:
            return Wait(common, everyone=True)
        if self._budget is not None and self._spent + self._reserved + amount > self._limit:
            return Wait(None, everyone=True)
        return Go(self._reserve(wish, usd, amount, channel, now))

    def answered(
        self, reservation: Reservation, headers: Mapping[str, str], now: float, wall: float
    ) -> None:
        """Note that an answer has begun, unless it is a refusal because of the rate.

        Args:
            headers: by names in small letters, or a mapping that ignores case.
            wall: seconds since 1970.
        """
        reservation.channel.answered(reservation.mark, headers, now, wall)

    def settle(self, reservation: Reservation, usage: Usage | None, now: float) -> float | None:
        """End a request that was, or may have been, billed: without usage at what was reserved.

        Returns:
            What it cost in dollars; None where no price is known.
        """
        usd, amount = reservation.usd, reservation.amount
        if usage is not None:
            usd = self.usd(reservation.wish.model, usage)
            amount = self._amount(usage, usd)
        self._end(reservation, now, reservation.tokens if usage is None else usage.total)
        self._spent += amount
        return usd

    def cancel(self, reservation: Reservation, now: float) -> None:
        """End a request that was surely not billed."""
        self._end(reservation, now, 0)

    def refused_by_provider(
        self, reservation: Reservation, headers: Mapping[str, str], now: float, wall: float
    ) -> None:
        """End a request that the provider refused because of its rate, and pause all like it.

        The arguments are those of `answered`.
        """
        reservation.channel.refused(reservation.mark, headers, now, wall)
        self._end(reservation, now, 0)

    def was_paid(self, model: str, usage: Usage, *, usd: float | None = None) -> None:
        """Add what an earlier run spent.

        Args:
            usd: what it cost; None to use today's prices.
        """
        self._spent += self._amount(usage, self.usd(model, usage) if usd is None else usd)

    def was_sent(self, model: str, tokens: int, at: float) -> None:
        """Count a request that another process sent, only for the rates; pass the oldest first.

        Args:
            tokens: those that it took.
            at: when, by the same clock as all others; it may be negative.
        """
        self._count(model, tokens, at)

    def usd(self, model: str, usage: Usage) -> float | None:
        """What tokens cost in dollars; None where no price in dollars is known."""
        price = self._price(model)
        if price is None:
            return None
        return price.cost(input=usage.input, output=usage.output, cached=usage.cached)

    @property
    def _is_in_dollars(self) -> bool:
        return self._budget is not None and self._budget.unit == "usd"

    def _price(self, model: str) -> Price | None:
        if self._prices is None or not self._prices.is_in_dollars:
            return None
        if model not in self._known_prices:
            if len(self._known_prices) >= _MOST_NAMES:
                self._known_prices.clear()
            self._known_prices[model] = self._prices.of(model)
        return self._known_prices[model]

    def _amount(self, usage: Usage, usd: float | None) -> int:
        """What tokens take from the budget, in the unit that it is counted in."""
        if not self._is_in_dollars:
            return usage.total
        return math.ceil(self._parts(usd or 0.0))

    def _parts(self, amount: float) -> float:
        return amount * _PARTS if self._is_in_dollars else amount

    def _shown(self, parts: int) -> float:
        return parts / _PARTS if self._is_in_dollars else parts

    def _fits(self, model: str, tokens: int, now: float) -> float:
        """When a request fits into the minute of this model; `now` if it does."""
        when = now
        if (window := self._requests.get(model)) is not None:
            when = window.when(1, now)
        if (window := self._tokens.get(model)) is not None:
            when = max(when, window.when(tokens, now))
        return when

    def _reserve(
        self, wish: Wish, usd: float | None, amount: int, channel: Channel, now: float
    ) -> Reservation:
        tokens = wish.bound.input + wish.bound.output
        reservation = Reservation(
            wish,
            usd=usd,
            amount=amount,
            channel=channel,
            mark=channel.send(tokens, now),
            entry=self._count(wish.model, tokens, now),
        )
        self._reserved += amount
        self._under_way.add(reservation)
        return reservation

    def _count(self, model: str, tokens: int, now: float) -> SentAmount:
        entry = SentAmount(now, tokens)
        for name in {model, ""}:
            if (window := self._requests.get(name)) is not None:
                window.add(SentAmount(now, 1))
            if (window := self._tokens.get(name)) is not None:
                window.add(entry)
        return entry

    def _end(self, reservation: Reservation, now: float, tokens: int) -> None:
        self._under_way.remove(reservation)  # a KeyError if it has ended already
        self._reserved -= reservation.amount
        reservation.channel.ended(reservation.mark)
        entry = reservation.entry
        for name in {reservation.wish.model, ""}:
            if (window := self._tokens.get(name)) is not None:
                window.change(entry, tokens, now)
        entry.size = tokens

    def _channel(self, wish: Wish, now: float) -> Channel:
        key = (wish.route, wish.model)
        channel = self._channels.get(key)
        if channel is None:
            if len(self._channels) >= _MOST_NAMES:
                known = self._channels.items()
                self._channels = {name: each for name, each in known if not each.is_idle(now)}
            channel = self._channels[key] = Channel()
        return channel

    def _refused(self, amount: int, unit: Unit, bound: Bound) -> Unaffordable:
        whole, spent, asked = (
            amount_in_words(self._shown(parts), unit)
            for parts in (self._limit, self._spent, amount)
        )
        if amount > self._limit:
            what = f"one request may cost {asked}, and the budget is {whole}"
        else:
            what = (
                f"the budget of {whole} is used up: {spent} are spent, and one more request may "
                f"cost {asked}"
            )
        if not bound.bounded:
            what += " (a guess, because it sets no max_tokens or has more than text in it)"
        return Unaffordable(Problem.BUDGET, what, RAISE_BUDGET)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that the options of a run set, as one value that can be sent to another process.

    Attributes:
        rpm: the most requests in a minute, by model; "" for all models together.
        tpm: the most tokens in a minute, likewise.
    """

    budget: Budget | None = None
    prices: Prices | None = None
    rpm: dict[str, int] = {}
    tpm: dict[str, int] = {}

    def allowance(self, *, spent: float = 0) -> Allowance:
        """Start to count, given what is already spent in the budget's unit."""
        return Allowance(
            budget=self.budget, prices=self.prices, rpm=self.rpm, tpm=self.tpm, spent=spent
        )


def limits_of_run(options: "RunOptions", *, model: str | None = None) -> Limits:
    """The limits of a run; the file of prices is read.

    Args:
        options: of the run.
        model: as in `check_budget`.

    Raises:
        UsageError: two of them contradict each other, or a price is missing.
        EnvironmentFault: the file of prices cannot be read.
    """
    given = {
        "--budget": options.budget,
        "--rpm": options.rpm,
        "--tpm": options.tpm,
        "--upstream": options.upstreams,
    }
    for option, value in given.items():
        if value and not options.gateway:
            raise UsageError(
                f"{option} needs the gateway", f"leave out --no-gateway, or {option} itself"
            )
    limits = Limits(
        budget=options.budget,
        prices=read_prices(options.prices),
        rpm=limits_of(options.rpm, "--rpm"),
        tpm=limits_of(options.tpm, "--tpm"),
    )
    check_budget(limits.budget, limits.prices, model=model)
    return limits

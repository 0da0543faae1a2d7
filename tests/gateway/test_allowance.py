from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.gateway.allowance import Allowance, Decision, Go, Reservation, Unaffordable, Wait, Wish
from runner.gateway.prices import Prices, parse_prices
from runner.gateway.rates import TRIAL, WINDOW
from runner.gateway.tokens import Bound
from runner.model import Problem
from runner.records.answers import Usage
from runner.units import Budget

PRICES = parse_prices(
    "f",
    "models:\n"
    "  small: {input: 0.15, output: 0.6, cached_input: 0.075}\n"
    "  large: {input: 30, output: 60}\n",
)
WALL = 1_900_000_000.0


def wish(
    model: str = "small",
    *,
    input: int = 0,  # noqa: A002 - the field's word
    output: int = 0,
    route: str = "openai",
) -> Wish:
    """A request that may cost so many tokens."""
    return Wish(attempt="a", route=route, model=model, bound=Bound(input=input, output=output))


def sent(decision: Decision) -> Reservation:
    """What is reserved for a request that may be sent."""
    assert isinstance(decision, Go)
    return decision.reservation


def tokens(limit: int, spent: int = 0) -> Allowance:
    """A budget in tokens."""
    return Allowance(budget=Budget(limit, "tok"), spent=spent)


def dollars(limit: float, *, spent: float = 0, prices: Prices = PRICES) -> Allowance:
    """A budget in dollars."""
    return Allowance(budget=Budget(limit, "usd"), spent=spent, prices=prices)


def test_without_limits_everything_may_be_sent() -> None:
    """What it may cost is known all the same, where there is a price."""
    allowance = Allowance(prices=PRICES)
    found = sent(allowance.ask(wish("large", input=1_000_000, output=500_000), 0.0))
    assert (found.tokens, found.usd) == (1_500_000, 60.0)
    assert sent(allowance.ask(wish("other", input=5), 0.0)).usd is None
    assert allowance.settle(found, Usage(input=100_000), 1.0) == 3.0
    assert (allowance.spent, allowance.reserved) == (100_000, 5)


def test_of_32_requests_at_once_as_many_are_sent_as_there_is_money() -> None:
    """The others wait, because it is only reserved; they go when less was needed."""
    allowance = tokens(1000)
    decisions = [allowance.ask(wish(input=60, output=40), 0.0) for _ in range(32)]
    assert [isinstance(decision, Go) for decision in decisions] == [True] * 10 + [False] * 22
    assert set(decisions[10:]) == {Wait(None, everyone=True)}
    assert (allowance.spent, allowance.reserved) == (0, 1000)
    allowance.settle(sent(decisions[0]), Usage(input=30, output=20), 1.0)
    assert allowance.ask(wish(input=60, output=40), 1.0) == Wait(None, everyone=True)
    allowance.settle(sent(decisions[1]), Usage(input=30, output=20), 1.0)
    sent(allowance.ask(wish(input=60, output=40), 1.0))
    assert (allowance.spent, allowance.reserved) == (100, 900)


def test_once_the_money_is_gone_requests_are_refused() -> None:
    """Though a smaller one may still fit."""
    allowance = tokens(1000)
    allowance.settle(sent(allowance.ask(wish(input=950), 0.0)), Usage(input=950), 1.0)
    assert allowance.ask(wish(output=51), 1.0) == Unaffordable(
        Problem.BUDGET,
        "the budget of 1,000 tokens is used up: 950 tokens are spent, and one more request may "
        "cost 51 tokens",
        "raise --budget, and run the same command again",
    )
    sent(allowance.ask(wish(output=50), 1.0))


def test_a_request_beyond_the_whole_budget_is_refused_as_that() -> None:
    """It is not used up."""
    found = dollars(0.5).ask(wish("large", output=10_000), 0.0)
    assert isinstance(found, Unaffordable)
    assert found.what == "one request may cost 0.6 US dollars, and the budget is 0.5 US dollars"


def test_what_earlier_runs_have_spent_counts() -> None:
    """In the budget's unit."""
    assert isinstance(tokens(1000, spent=950).ask(wish(output=51), 0.0), Unaffordable)
    allowance = dollars(5, spent=4.4)
    assert isinstance(allowance.ask(wish("large", output=10_001), 0.0), Unaffordable)
    sent(allowance.ask(wish("large", output=10_000), 0.0))
    assert allowance.spent == 4.4


def test_no_amount_is_too_small_to_count() -> None:
    """Parts of the smallest amount that is counted are rounded against the spender."""
    tiny = parse_prices("f", "models: {small: {input: 0, output: 0.0000001}}")
    allowance = dollars(0.000001, spent=0.000000999999, prices=tiny)
    found = sent(allowance.ask(wish(output=1), 0.0))
    assert allowance.ask(wish(output=1), 0.0) == Wait(None, everyone=True)
    allowance.settle(found, Usage(output=1), 1.0)
    assert isinstance(allowance.ask(wish(output=1), 1.0), Unaffordable)
    used_up = dollars(0.000001, spent=0.0000009999995, prices=tiny)
    assert isinstance(used_up.ask(wish(output=1), 0.0), Unaffordable)


def test_an_answer_without_usage_costs_what_was_reserved() -> None:
    """As does one that is perhaps paid: for good."""
    allowance = dollars(1)
    found = sent(allowance.ask(wish("large", output=10_000), 0.0))
    assert allowance.settle(found, None, 1.0) == 0.6
    assert (allowance.spent, allowance.reserved) == (0.6, 0)


def test_what_is_surely_not_billed_costs_nothing() -> None:
    """The provider was not reached, for example."""
    allowance = dollars(1)
    allowance.cancel(sent(allowance.ask(wish("large", output=10_000), 0.0)), 1.0)
    assert (allowance.spent, allowance.reserved) == (0, 0)


def test_more_than_was_reserved_is_spent_all_the_same() -> None:
    """Where the request set no limit."""
    allowance = tokens(100)
    allowance.settle(sent(allowance.ask(wish(output=10), 0.0)), Usage(output=300), 1.0)
    assert allowance.spent == 300
    assert isinstance(allowance.ask(wish(output=1), 1.0), Unaffordable)


def test_tokens_from_a_cache_cost_less() -> None:
    """But are reserved as if there were no cache."""
    allowance = dollars(1)
    found = sent(allowance.ask(wish(input=1_000_000), 0.0))
    assert found.usd == 0.15
    assert allowance.settle(found, Usage(input=1_000_000, cached=1_000_000), 1.0) == 0.075


def test_a_request_ends_once() -> None:
    """A second end would give money back that is spent."""
    allowance = tokens(100)
    found = sent(allowance.ask(wish(output=10), 0.0))
    allowance.settle(found, None, 1.0)
    with pytest.raises(KeyError):
        allowance.cancel(found, 1.0)
    assert (allowance.spent, allowance.reserved) == (10, 0)


def test_money_cannot_be_counted_without_a_price() -> None:
    """In dollars, it is."""
    found = dollars(5).ask(wish("unknown", output=1), 0.0)
    assert found == Unaffordable(
        Problem.PRICE,
        "no price is known for `unknown`, and the budget is in US dollars",
        "add it to the file of --prices",
    )
    sent(tokens(5).ask(wish("unknown", output=1), 0.0))
    euros = parse_prices("f", "{currency: EUR, models: {small: {input: 1, output: 1}}}")
    assert isinstance(dollars(5, prices=euros).ask(wish(output=1), 0.0), Unaffordable)
    assert Allowance(prices=euros).usd("small", Usage(output=1)) is None


def test_requests_in_a_minute_are_limited_for_all_models_and_for_each() -> None:
    """What waits for its own model may be overtaken, what waits for all may not."""
    allowance = Allowance(rpm={"": 3, "small": 2})
    for at in (0.0, 1.0):
        sent(allowance.ask(wish(), at))
    assert allowance.ask(wish(), 2.0) == Wait(WINDOW, everyone=False)
    sent(allowance.ask(wish("large"), 2.0))
    assert allowance.ask(wish("large"), 3.0) == Wait(WINDOW, everyone=True)
    assert allowance.ask(wish(), 3.0) == Wait(WINDOW, everyone=False)
    sent(allowance.ask(wish(), WINDOW))


def test_tokens_in_a_minute_are_reserved_and_then_corrected() -> None:
    """For all models and for each."""
    allowance = Allowance(tpm={"": 100, "small": 100})
    first = sent(allowance.ask(wish(input=40, output=40), 0.0))
    assert allowance.ask(wish(output=30), 1.0) == Wait(WINDOW, everyone=False)
    assert allowance.ask(wish("large", output=30), 1.0) == Wait(WINDOW, everyone=True)
    allowance.settle(first, Usage(input=20, output=10), 1.0)
    second = sent(allowance.ask(wish(output=70), 1.0))
    assert isinstance(allowance.ask(wish(output=1), 2.0), Wait)
    allowance.cancel(second, 2.0)
    sent(allowance.ask(wish(output=70), 2.0))
    sent(allowance.ask(wish(output=100), 2.0 + WINDOW))
    assert isinstance(allowance.ask(wish(output=1), 2.0 + WINDOW), Wait)


def test_a_correction_after_its_minute_changes_nothing() -> None:
    """What has left the window cannot leave it again."""
    allowance = Allowance(tpm={"": 100})
    slow = sent(allowance.ask(wish(output=100), 0.0))
    sent(allowance.ask(wish(output=90), WINDOW))
    allowance.settle(slow, Usage(output=5), WINDOW + 1)
    sent(allowance.ask(wish(output=10), WINDOW + 1))
    assert isinstance(allowance.ask(wish(output=1), WINDOW + 1), Wait)


def test_what_another_process_sent_counts_for_the_minute() -> None:
    """A gateway that is started again keeps within its limits."""
    allowance = Allowance(rpm={"small": 2}, tpm={"": 100})
    allowance.was_sent("small", 60, at=-31.0)
    allowance.was_sent("large", 20, at=-10.0)
    sent(allowance.ask(wish(output=20), 0.0))
    assert allowance.ask(wish(), 1.0) == Wait(WINDOW - 31, everyone=False)
    assert allowance.ask(wish("large", output=1), 1.0) == Wait(WINDOW - 31, everyone=True)


def test_a_refusal_pauses_one_model_of_one_provider() -> None:
    """It costs nothing; then one goes first."""
    allowance = tokens(100)
    refused = sent(allowance.ask(wish(output=10), 0.0))
    allowance.refused_by_provider(refused, {"retry-after": "5"}, 1.0, WALL)
    assert (allowance.spent, allowance.reserved) == (0, 0)
    assert allowance.ask(wish(), 2.0) == Wait(6.0, everyone=False)
    sent(allowance.ask(wish("large"), 2.0))
    sent(allowance.ask(wish(route="azure"), 2.0))
    first = sent(allowance.ask(wish(), 6.0))
    assert allowance.ask(wish(), 6.0) == Wait(6.0 + TRIAL, everyone=False)
    allowance.answered(first, {}, 6.5, WALL)
    sent(allowance.ask(wish(), 6.5))


def test_the_providers_headers_lower_the_limit() -> None:
    """They never raise it."""
    allowance = Allowance(rpm={"small": 3})
    found = sent(allowance.ask(wish(), 0.0))
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}
    allowance.answered(found, headers, 1.0, WALL)
    sent(allowance.ask(wish(), 1.0))
    assert allowance.ask(wish(), 1.0) == Wait(10.0, everyone=False)
    sent(allowance.ask(wish(), 10.0))
    assert allowance.ask(wish(), 10.0) == Wait(WINDOW, everyone=False)


def test_names_without_end_take_no_memory_without_end() -> None:
    """An eval may invent models; what is under way or paused is remembered all the same."""
    allowance = Allowance(prices=PRICES)
    paused = sent(allowance.ask(wish("paused"), 0.0))
    allowance.refused_by_provider(paused, {"retry-after": "500"}, 0.0, WALL)
    for number in range(5000):
        allowance.cancel(sent(allowance.ask(wish(f"m{number}"), 1.0)), 1.0)
    assert len(allowance._channels) <= 1001
    assert len(allowance._known_prices) <= 1001
    assert allowance.ask(wish("paused"), 2.0) == Wait(500.0, everyone=False)


MODELS = {
    "small": (Fraction("0.15"), Fraction("0.6")),
    "large": (Fraction(30), Fraction(60)),
}
counts = st.integers(0, 10_000)
shares = st.integers(0, 100)


class Spending(RuleBasedStateMachine):
    """A budget, compared with exact sums of what a provider bills, at worst."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.under_way: list[tuple[Reservation, Fraction]] = []
        self.billed = Fraction(0)

    def cost(self, model: str, tokens_in: int, tokens_out: int) -> Fraction:
        """Of tokens, in the budget's unit."""
        if self.unit == "tok":
            return Fraction(tokens_in + tokens_out)
        price_in, price_out = MODELS[model]
        return (tokens_in * price_in + tokens_out * price_out) / 1_000_000

    @initialize(in_dollars=st.booleans(), limit=st.integers(1, 40), before=shares)
    def start(self, in_dollars: bool, limit: int, before: int) -> None:  # noqa: FBT001 - Hypothesis'
        """A budget of which some is spent."""
        self.unit = "usd" if in_dollars else "tok"
        self.limit = Fraction(limit, 20) if in_dollars else Fraction(limit * 1000)
        self.billed = self.limit * before / 100
        budget = Budget(float(self.limit), "usd" if in_dollars else "tok")
        self.allowance = Allowance(budget=budget, spent=float(self.billed), prices=PRICES)

    @rule(model=st.sampled_from(sorted(MODELS)), tokens_in=counts, tokens_out=counts)
    def ask(self, model: str, tokens_in: int, tokens_out: int) -> None:
        """It may be sent exactly if it fits, and is refused if nothing can make room for it."""
        cost = self.cost(model, tokens_in, tokens_out)
        reserved = sum((each for _, each in self.under_way), Fraction(0))
        decision = self.allowance.ask(wish(model, input=tokens_in, output=tokens_out), self.now)
        # Each sum is rounded up to a millionth of a millionth of a dollar.
        grain = Fraction(len(self.under_way) + 2000, 10**12) if self.unit == "usd" else Fraction(0)
        if isinstance(decision, Go):
            assert self.billed + reserved + cost <= self.limit
            self.under_way.append((decision.reservation, cost))
        elif isinstance(decision, Wait):
            assert decision == Wait(None, everyone=True)
            assert self.under_way
            assert self.billed + cost <= self.limit
            assert self.billed + reserved + cost + grain > self.limit
        else:
            assert decision.why is Problem.BUDGET
            assert self.billed + cost + grain > self.limit

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), share_in=shares, share_out=shares, share_cached=shares)
    def settle(self, data: st.DataObject, share_in: int, share_out: int, share_cached: int) -> None:
        """An answer takes no more than its bound; some of its prompt may come from a cache."""
        found = self.take(data)
        bound = found.wish.bound
        used_in, used_out = bound.input * share_in // 100, bound.output * share_out // 100
        cached = used_in * share_cached // 100
        usage = Usage(input=used_in, output=used_out, cached=cached)
        self.allowance.settle(found, usage, self.now)
        self.billed += self.cost(found.wish.model, used_in, used_out)
        if self.unit == "usd" and found.wish.model == "small":
            self.billed -= cached * Fraction("0.075") / 1_000_000

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """It is perhaps paid; at worst, it costs what it may."""
        found = self.take(data)
        self.allowance.settle(found, None, self.now)
        bound = found.wish.bound
        self.billed += self.cost(found.wish.model, bound.input, bound.output)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """It is surely not billed."""
        self.allowance.cancel(self.take(data), self.now)

    def take(self, data: st.DataObject) -> Reservation:
        """One that is under way, in any order."""
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        self.now += 0.1
        return self.under_way.pop(index)[0]

    @invariant()
    def is_never_overspent(self) -> None:
        """Though all that is under way costs as much as it may."""
        if hasattr(self, "limit"):
            assert self.billed + sum(each for _, each in self.under_way) <= self.limit


TestSpending = Spending.TestCase

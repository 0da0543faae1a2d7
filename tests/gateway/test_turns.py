import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.gateway.allowance import Allowance, Go, Reservation, Unaffordable, Wish
from runner.gateway.rates import WINDOW
from runner.gateway.tokens import Bound
from runner.gateway.turns import Ticket, Turns
from runner.records.answers import Usage
from runner.units import Budget

WALL = 1_900_000_000.0


def wish(attempt: str, model: str = "m", tokens: int = 1) -> Wish:
    """A request of an attempt."""
    return Wish(attempt=attempt, route="openai", model=model, bound=Bound(output=tokens))


def decided(turns: Turns, now: float) -> str:
    """The attempts whose requests may be sent now, a letter each; those refused in capitals."""
    return "".join(
        ticket.wish.attempt.upper() if isinstance(verdict, Unaffordable) else ticket.wish.attempt
        for ticket, verdict in turns.decide(now)
    )


def test_attempts_take_turns() -> None:
    """One with very many requests does not starve one with few."""
    turns = Turns(Allowance(rpm={"": 6}))
    for _ in range(1000):
        turns.add(wish("a"), 0.0)
    for attempt in "bbc":
        turns.add(wish(attempt), 0.0)
    assert decided(turns, 0.0) == "abcaba"
    assert turns.until == WINDOW
    turns.add(wish("b"), 1.0)
    assert decided(turns, 1.0) == ""
    assert decided(turns, WINDOW) == "abaaaa"
    assert len(turns) == 1004 - 12


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.integers(1, 7))
def test_nobody_is_served_twice_while_another_waits(asked: list[str], rpm: int) -> None:
    """Of those that ask the same model."""
    turns = Turns(Allowance(rpm={"m": rpm}))
    for attempt in asked:
        turns.add(wish(attempt), 0.0)
    order = "".join(decided(turns, number * WINDOW) for number in range(len(asked)))
    assert sorted(order) == sorted(asked)
    for start, attempt in enumerate(order):
        between, twice, after = order[start + 1 :].partition(attempt)
        assert not twice or set(after) - {attempt} <= set(between)


def test_an_attempt_keeps_its_place_from_one_decision_to_the_next() -> None:
    """Whoever was served last is last."""
    turns = Turns(Allowance(rpm={"": 1}))
    for attempt in "aaabb":
        turns.add(wish(attempt), 0.0)
    assert [decided(turns, number * WINDOW) for number in range(5)] == ["a", "b", "a", "b", "a"]


def test_requests_of_an_attempt_keep_their_order_unless_they_come_back() -> None:
    """What the provider has refused is the first to be sent again."""
    allowance = Allowance()
    turns = Turns(allowance)
    first, second = turns.add(wish("a"), 0.0), turns.add(wish("a"), 0.0)
    found = turns.decide(0.0)
    assert [ticket for ticket, _ in found] == [first, second]
    turns.add(wish("a"), 1.0)
    assert isinstance(found[0][1], Go)
    allowance.refused_by_provider(found[0][1].reservation, {"retry-after": "4"}, 1.0, WALL)
    turns.ended("a", 1.0)
    again = turns.add(first.wish, 1.0, again=True)
    assert turns.decide(1.0) == []
    assert turns.until == 5.0
    assert [ticket for ticket, _ in turns.decide(5.0)] == [again]


def test_a_busy_model_does_not_hold_up_another() -> None:
    """Not even for the same attempt."""
    turns = Turns(Allowance(rpm={"busy": 1}))
    for attempt, model in ("a", "busy"), ("a", "busy"), ("a", "free"), ("b", "free"):
        turns.add(wish(attempt, model), 0.0)
    assert decided(turns, 0.0) == "aab"
    assert (turns.until, len(turns)) == (WINDOW, 1)


def test_the_next_time_is_that_of_whoever_may_go_first() -> None:
    """Of lines that wait for different times."""
    allowance = Allowance(rpm={"early": 1, "late": 1})
    allowance.was_sent("early", 0, at=-30.0)
    allowance.was_sent("late", 0, at=-10.0)
    for models in (["early", "late"], ["late", "early"]):
        turns = Turns(allowance)
        for model in models:
            turns.add(wish("a", model), 0.0)
        assert turns.decide(0.0) == []
        assert turns.until == WINDOW - 30


def test_nobody_overtakes_who_waits_for_money() -> None:
    """Otherwise a large request would never find enough of it."""
    allowance = Allowance(budget=Budget(100, "tok"))
    turns = Turns(allowance)
    turns.add(wish("a", tokens=50), 0.0)
    ((_, verdict),) = turns.decide(0.0)
    turns.add(wish("b", "large", tokens=60), 0.0)
    turns.add(wish("c", tokens=10), 0.0)
    assert decided(turns, 0.0) == ""
    assert turns.until is None
    assert isinstance(verdict, Go)
    allowance.settle(verdict.reservation, Usage(output=20), 1.0)
    assert decided(turns, 1.0) == "bc"


def test_nobody_overtakes_who_waits_for_the_minute_of_all() -> None:
    """Otherwise a large request would never find enough room in it."""
    turns = Turns(Allowance(tpm={"": 100}))
    for attempt, model, tokens in ("a", "m", 50), ("b", "n", 60), ("c", "m", 10):
        turns.add(wish(attempt, model, tokens), 0.0)
    assert decided(turns, 0.0) == "a"
    turns.add(wish("d", "n", 10), 1.0)
    assert decided(turns, 1.0) == ""
    assert turns.until == WINDOW
    assert decided(turns, WINDOW) == "bcd"


def test_once_the_money_is_gone_all_are_told() -> None:
    """None of them stays in the queue."""
    allowance = Allowance(budget=Budget(10, "tok"))
    turns = Turns(allowance)
    for attempt in "abab":
        turns.add(wish(attempt, tokens=10), 0.0)
    ((_, verdict),) = turns.decide(0.0)
    assert isinstance(verdict, Go)
    allowance.settle(verdict.reservation, None, 1.0)
    assert decided(turns, 1.0) == "BAB"
    assert len(turns) == 0


def test_a_request_that_nobody_waits_for_is_taken_out() -> None:
    """The others keep their places, and it cannot be taken out twice."""
    turns = Turns(Allowance(rpm={"": 1}))
    assert turns.decide(0.0) == []
    tickets = [turns.add(wish(attempt), 0.0) for attempt in "aabc"]
    turns.remove(tickets[0], 0.0)
    turns.remove(tickets[2], 0.0)
    assert len(turns) == 2
    assert [decided(turns, number * WINDOW) for number in range(3)] == ["a", "c", ""]
    with pytest.raises(KeyError):
        turns.remove(tickets[0], 1.0)


def test_an_attempt_waits_while_all_of_its_requests_are_in_the_queue() -> None:
    """While one is under way, or it asks for nothing, it does not."""
    turns = Turns(Allowance(rpm={"": 1}))
    assert turns.waited("a", 0.0) == 0
    turns.add(wish("b"), 0.0)
    assert decided(turns, 0.0) == "b"
    first = turns.add(wish("a"), 10.0)
    assert turns.waited("a", 15.0) == 5
    turns.add(wish("a"), 15.0)
    assert decided(turns, WINDOW) == "a"
    assert turns.waited("a", WINDOW + 20) == WINDOW - 10
    turns.ended("a", WINDOW + 20)
    assert turns.waited("a", WINDOW + 21) == WINDOW - 10 + 1
    assert decided(turns, 2 * WINDOW) == "a"
    turns.ended("a", 2 * WINDOW)
    assert turns.waited("a", 999.0) == WINDOW - 10 + WINDOW - 20
    assert turns.waited("b", 999.0) == 0
    turns.forget("a")
    turns.ended("a", 999.0)
    assert turns.waited("a", 999.0) == 0
    with pytest.raises(KeyError):
        turns.remove(first, 999.0)


def test_a_request_that_is_refused_or_given_up_is_not_waited_for() -> None:
    """It is neither in the queue nor under way."""
    allowance = Allowance(budget=Budget(10, "tok"), rpm={"": 1})
    turns = Turns(allowance)
    turns.add(wish("a", tokens=11), 0.0)
    turns.add(wish("b"), 0.0)
    assert decided(turns, 0.0) == "Ab"
    given_up = turns.add(wish("a"), 5.0)
    assert turns.waited("a", 7.0) == 2
    turns.remove(given_up, 8.0)
    assert turns.waited("a", 99.0) == 3


class Queueing(RuleBasedStateMachine):
    """Attempts that ask, providers that answer and refuse, and time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queued: dict[Ticket, None] = {}
        self.under_way: list[Reservation] = []

    @initialize(budget=st.none() | st.integers(100, 3000), rpm=st.integers(1, 5))
    def start(self, budget: int | None, rpm: int) -> None:
        """Two models, of which one has a limit of its own."""
        self.allowance = Allowance(
            budget=None if budget is None else Budget(budget, "tok"),
            rpm={"": 2 * rpm, "m": rpm},
            tpm={"": 500, "n": 300},
        )
        self.turns = Turns(self.allowance)

    @rule(attempt=st.sampled_from("abc"), model=st.sampled_from("mn"), tokens=st.integers(0, 200))
    def add(self, attempt: str, model: str, tokens: int) -> None:
        """An attempt asks."""
        self.queued[self.turns.add(wish(attempt, model, tokens), self.now)] = None
        self.decide()

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A client goes."""
        ticket = data.draw(st.sampled_from(list(self.queued)))
        self.turns.remove(ticket, self.now)
        del self.queued[ticket]
        self.decide()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["settle", "cancel", "refuse"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """A request comes to its end."""
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        found = self.under_way.pop(index)
        if how == "settle":
            used = data.draw(st.integers(0, found.tokens))
            self.allowance.settle(found, Usage(output=used), self.now)
        elif how == "cancel":
            self.allowance.cancel(found, self.now)
        else:
            self.allowance.refused_by_provider(found, {}, self.now, WALL)
        self.turns.ended(found.wish.attempt, self.now)
        if how == "refuse":
            self.queued[self.turns.add(found.wish, self.now, again=True)] = None
        self.decide()

    @precondition(lambda self: self.turns.until is not None)
    @rule()
    def wait(self) -> None:
        """The time comes at which it wants to be asked again."""
        assert self.turns.until is not None
        assert self.turns.until > self.now
        self.now = self.turns.until
        self.decide()

    def decide(self) -> None:
        """Each is decided about once."""
        for ticket, verdict in self.turns.decide(self.now):
            del self.queued[ticket]
            if isinstance(verdict, Go):
                self.under_way.append(verdict.reservation)

    @invariant()
    def has_a_next_time(self) -> None:
        """Whoever waits is asked about again: at a time, or when something ends."""
        if self.queued:
            assert len(self.turns) == len(self.queued)
            assert self.turns.until is not None or self.under_way

    def teardown(self) -> None:
        """All come to their end, if time passes and providers answer."""
        for _ in range(2000):
            if not self.queued:
                break
            while self.under_way:
                found = self.under_way.pop()
                self.allowance.settle(found, Usage(), self.now)
                self.turns.ended(found.wish.attempt, self.now)
            self.decide()
            if self.turns.until is not None and not self.under_way:
                self.now = self.turns.until
                self.decide()
        assert not self.queued


TestQueueing = Queueing.TestCase

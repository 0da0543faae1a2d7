import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.gateway.rates import (
    LONGEST_DOUBLED,
    TRIAL,
    WINDOW,
    Channel,
    Mark,
    SentAmount,
    Window,
    limits_of,
)
from runner.units import Rate

WALL = 1_900_000_000.0


def test_limits_are_by_model() -> None:
    """That of all models is at none."""
    rates = [Rate("", 100), Rate("gpt-4", 10)]
    assert limits_of(rates, "--rpm") == {"": 100, "gpt-4": 10}


@pytest.mark.parametrize(("model", "whose"), [("", "all models"), ("gpt-4", "`gpt-4`")])
def test_two_limits_for_one_model_are_refused(model: str, whose: str) -> None:
    """Nobody knows which is meant."""
    with pytest.raises(UsageError) as caught:
        limits_of([Rate(model, 1), Rate("other", 1), Rate(model, 2)], "--rpm")
    assert str(caught.value) == f"--rpm has two limits for {whose}; leave one out"


sends = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.3, 5.0, 20.0, 61.0]) | st.floats(0, 70),
        st.integers(0, 60),
        st.integers(0, 100),
        st.floats(0, 1),
    ),
    max_size=60,
)


@given(sends, st.integers(1, 50))
def test_no_minute_has_more_than_the_limit(
    asked: list[tuple[float, int, int, float]], limit: int
) -> None:
    """Of what arrives, whatever is asked for and when, and however much of it is not needed.

    On its way each takes up to a second.
    """
    window = Window(limit)
    now = 0.0
    arrived: list[tuple[float, int]] = []
    for pause, size, used, delay in asked:
        now += pause
        tries = 0
        while (when := window.when(size, now)) > now:
            assert when <= now + WINDOW
            now = when
            tries += 1
            assert tries < 200
        entry = SentAmount(now, size)
        window.add(entry)
        taken = size * used // 100
        window.change(entry, taken, now)
        entry.size = taken
        arrived.append((now + delay, taken))
    for first, _ in arrived:
        inside = [size for at, size in arrived if first <= at < first + 60 and size]
        assert sum(inside) <= limit or len(inside) == 1


def test_what_is_larger_than_the_limit_goes_alone() -> None:
    """It has to wait until nothing else counts, and others for its end."""
    window = Window(100)
    small = SentAmount(0.0, 10)
    window.add(small)
    assert window.when(500, 1.0) == WINDOW
    large = SentAmount(WINDOW, 500)
    assert window.when(500, WINDOW) == WINDOW
    window.add(large)
    assert window.when(1, WINDOW + 1) == 2 * WINDOW
    window.change(large, 40, WINDOW + 2)
    large.size = 40
    assert window.when(60, WINDOW + 2) == WINDOW + 2
    assert window.when(61, WINDOW + 2) == 2 * WINDOW


def test_it_waits_for_as_much_as_it_needs() -> None:
    """Not for the oldest alone."""
    window = Window(10)
    for at in range(10):
        window.add(SentAmount(float(at), 1))
    assert window.when(1, 9.5) == WINDOW
    assert window.when(4, 9.5) == 3 + WINDOW


class Talk:
    """Requests and answers of one channel."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.now = 1000.0

    def send(self, tokens: int = 1) -> Mark:
        """Send one that may be sent."""
        assert self.when(tokens) == 0
        return self.channel.send(tokens, self.now)

    def when(self, tokens: int = 1) -> float:
        """Seconds from now."""
        return self.channel.when(tokens, self.now) - self.now

    def refuse(self, mark: Mark, **headers: str) -> None:
        """The provider answers with 429."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.channel.refused(mark, named, self.now, WALL)
        self.channel.ended(mark)

    def answer(self, mark: Mark, **headers: str) -> None:
        """The provider answers."""
        named = {f"x-ratelimit-{name.replace('_', '-')}": each for name, each in headers.items()}
        self.channel.answered(mark, named, self.now, WALL)
        self.channel.ended(mark)


@pytest.fixture
def talk() -> Talk:
    """A channel of which nothing is known yet."""
    return Talk()


def test_nothing_is_sent_before_the_time_that_the_provider_names(talk: Talk) -> None:
    """All wait for it, and then one goes first, the others only once it has an answer."""
    refused, _ = talk.send(), talk.send()
    talk.refuse(refused, retry_after="8")
    assert talk.when() == 8
    talk.now += 7.9
    assert talk.when() > 0
    talk.now += 0.11
    first = talk.send()
    assert talk.when() > 0
    talk.answer(first)
    talk.send()
    talk.send()


def test_without_a_time_pauses_double(talk: Talk) -> None:
    """From a second to a minute, and anew after an answer."""
    pauses = []
    for _ in range(2000):
        mark = talk.send()
        talk.refuse(mark)
        pauses.append(talk.when())
        talk.now += talk.when()
    assert pauses == [1, 2, 4, 8, 16, 32] + [LONGEST_DOUBLED] * 1994
    talk.answer(talk.send())
    talk.refuse(talk.send(), retry_after="0")
    assert talk.when() == 1


def test_many_refusals_at_once_are_one(talk: Talk) -> None:
    """Those under way when the pause begins do not make it longer, unless they name a time."""
    marks = [talk.send() for _ in range(32)]
    for mark in marks[:30]:
        talk.refuse(mark)
        talk.now += 0.01
    assert talk.when() == pytest.approx(1 - 0.3)
    talk.refuse(marks[30], retry_after="5")
    assert talk.when() == 5
    talk.refuse(marks[31], retry_after_ms="10")
    assert talk.when() == 5


def test_an_answer_to_what_was_sent_before_the_pause_says_nothing_of_the_next(talk: Talk) -> None:
    """Pauses keep doubling."""
    refused, slow = talk.send(), talk.send()
    talk.refuse(refused)
    talk.now += 1
    first = talk.send()
    talk.answer(slow)
    talk.refuse(first)
    assert talk.when() == 2


def test_a_late_refusal_that_names_a_time_needs_a_new_try(talk: Talk) -> None:
    """The answer to the try before it says nothing of what came later."""
    marks = [talk.send(), talk.send()]
    talk.refuse(marks[0])
    talk.now += 1
    first = talk.send()
    talk.refuse(marks[1], retry_after="3")
    talk.answer(first)
    assert talk.when() == 3
    talk.now += 3
    talk.send()
    assert talk.when() == TRIAL


def test_a_try_that_comes_to_nothing_is_followed_by_another(talk: Talk) -> None:
    """Its connection was cut, for example."""
    talk.refuse(talk.send())
    talk.now += 1
    talk.channel.ended(talk.send())
    talk.send()
    assert talk.when() == TRIAL


def test_a_try_that_is_not_refused_for_a_while_is_accepted(talk: Talk) -> None:
    """An answer may take minutes to begin, a refusal comes at once."""
    talk.refuse(talk.send())
    talk.now += 1
    talk.send()
    assert talk.when() == TRIAL
    talk.now += TRIAL
    talk.send()
    talk.send()


def test_no_more_is_sent_than_the_provider_has_left(talk: Talk) -> None:
    """What was sent since its answer's request has taken some of that."""
    mark = talk.send()
    talk.send()
    talk.answer(mark, remaining_requests="3", reset_requests="20s")
    talk.send()
    talk.send()
    assert talk.when() == 20
    talk.now += 20
    assert talk.when() == 0


def test_tokens_are_counted_likewise(talk: Talk) -> None:
    """As reserved."""
    mark = talk.send(50)
    talk.answer(mark, remaining_tokens="100", reset_tokens="6s", remaining_requests="9")
    talk.send(60)
    assert talk.when(40) == 0
    assert talk.when(41) == 6


def test_the_answer_to_the_newest_request_counts(talk: Talk) -> None:
    """One that was sent before tells of an older state, though it comes later."""
    old, new = talk.send(), talk.send()
    talk.answer(new, remaining_requests="0", reset_requests="9s")
    talk.answer(old, remaining_requests="500", reset_requests="1s")
    assert talk.when() == 9
    talk.now += 9
    talk.answer(talk.send(), remaining_requests="500", reset_requests="1s")
    assert talk.when() == 0


def test_a_channel_is_idle_when_nothing_of_it_is_to_be_remembered(talk: Talk) -> None:
    """No request is under way, no pause is on, and nothing is said of what is left."""
    assert talk.channel.is_idle(talk.now)
    mark = talk.send()
    assert not talk.channel.is_idle(talk.now)
    talk.answer(mark, remaining_requests="5", reset_requests="4s")
    assert not talk.channel.is_idle(talk.now)
    talk.now += 4
    assert talk.channel.is_idle(talk.now)
    talk.refuse(talk.send())
    assert not talk.channel.is_idle(talk.now)

"""Answers that are broken off again and again: what clients see, and what they are billed."""

import http.client
from contextlib import suppress

import pytest

from runner.gateway.asking import MOST_BROKEN
from tests.gateway.desk import Answer, Caller, Desk, prompt

pytestmark = pytest.mark.timeout(120)

STREAM = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]
ERRORS = (OSError, http.client.HTTPException)
REFUSAL = (
    "openai broke off 5 answers in a row to one request to m, all perhaps paid; ask it why, then "
    "run the same command again"
)


def until_final(caller: Caller, body: object, sample: str = "") -> Answer:
    """Ask as the clients of evals do, again after each error that is not final."""
    for _ in range(3 * MOST_BROKEN):
        with suppress(*ERRORS):
            answer = caller.ask(body, headers={"x-evalset-sample": sample})
            if answer.status == 200 or answer.headers.get("x-should-retry") == "false":
                return answer
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("way", ["cut", "late reset"])
def test_a_request_that_is_broken_off_again_and_again_is_given_up(
    here: Desk, way: str, *, stream: bool
) -> None:
    """Each time is billed; the attempt's account names it, and other requests go on."""
    here.stub.behave(way=way)
    caller = here.enter("a")
    answer = until_final(caller, prompt(stream=stream))
    assert (answer.status, answer.json["error"]["message"]) == (424, REFUSAL)
    assert len(here.billed()) == MOST_BROKEN
    assert here.account("a").refused == [REFUSAL]
    until_final(caller, prompt(stream=stream))
    assert len(here.billed()) == MOST_BROKEN
    here.stub.behave()
    assert caller.ask(prompt("another")).bill == here.billed()[-1]


def test_another_attempt_may_ask_again(here: Desk) -> None:
    """The provider may answer by then."""
    here.stub.behave(way="cut")
    assert until_final(here.enter("a"), prompt()).status == 424
    here.stub.behave()
    assert here.enter("b").ask(prompt()).bill == here.billed()[MOST_BROKEN]


def test_equal_requests_of_samples_are_counted_apart(here: Desk) -> None:
    """Else many samples that ask the same would be given up for one interruption."""
    script = [{"way": "cut"}] * (MOST_BROKEN - 1)
    here.stub.behave(script=[*script, {}, *script, {}])
    caller = here.enter("a")
    assert until_final(caller, prompt(), "1").status == 200
    assert until_final(caller, prompt(), "2").status == 200


def test_an_answer_ends_the_count(here: Desk) -> None:
    """Only what is broken off in a row counts."""
    script = [{"way": "cut"}] * (MOST_BROKEN - 1)
    here.stub.behave(script=[*script, {}, *script, {}])
    caller = here.enter("a")
    assert until_final(caller, prompt()).status == 200
    assert until_final(caller, prompt()).status == 200
    assert len(here.billed()) == 2 * MOST_BROKEN


def test_a_stream_of_garbage_is_no_answer(here: Desk) -> None:
    """Though it ends as it should: the client does not get its end, and no record has it."""
    here.stub.behave(way="garbage")
    caller = here.enter("a")
    with pytest.raises(ERRORS):
        caller.ask(prompt(stream=True))
    assert here.lines("answer") == []
    assert until_final(caller, prompt(stream=True)).status == 424
    assert len(here.billed()) == MOST_BROKEN
    here.stub.behave()
    assert here.enter("b").ask(prompt(stream=True)).bill == here.billed()[MOST_BROKEN]

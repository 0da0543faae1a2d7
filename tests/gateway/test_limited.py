"""The gateway's process under a budget and a rate: the ledger says what was let through."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from runner.gateway.allowance import Limits
from runner.gateway.prices import Price, Prices
from runner.gateway.tokens import OVERHEAD
from runner.units import Budget
from tests.conftest import until
from tests.gateway.desk import Caller, Desk, prompt
from tests.provider import Provider

pytestmark = pytest.mark.timeout(120)

# What each request may cost at most: its body, what providers add, and the answer.
OUTPUT = 100


def short(text: str) -> dict[str, object]:
    """A request that limits its answer."""
    return {**prompt(text), "max_tokens": OUTPUT}


@contextmanager
def limited(folder: Path, stub: Provider, limits: Limits) -> Iterator[Desk]:
    """A gateway with these limits, which may be left in the middle."""
    here = Desk(folder, stub)
    here.config = msgspec.structs.replace(here.config, limits=limits)
    here.start()
    try:
        yield here
    finally:
        here.clear()


def spent(stub: Provider) -> int:
    """Tokens that were billed."""
    return sum(each.tokens.input + each.tokens.output for each in stub.bills())


def statuses(caller: Caller, count: int) -> list[int]:
    """What becomes of so many requests at once."""
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(caller.ask, short(f"question {each:02}")) for each in range(count)]
        return sorted(each.result().status for each in asked)


def test_a_budget_of_tokens_is_never_overspent(tmp_path: Path, stub: Provider) -> None:
    """Of 32 requests at once, where there is room for ten; what each may cost at most counts."""
    stub.behave(tokens=OUTPUT, delay=0.05)
    at_most = len(json.dumps(short("question 00"))) + OVERHEAD + OUTPUT
    real = len(["question", "00"]) + OUTPUT
    budget = 9 * real + at_most
    with limited(tmp_path, stub, Limits(budget=Budget(budget, "tok"))) as here:
        found = statuses(here.enter("a"), 32)
        assert found == [200] * 10 + [402] * 22
        assert len(stub.bills()) == 10
        assert spent(stub) == 10 * real <= budget
        account = here.account("a")
        assert account.kind == "budget"
        assert "raise --budget" in account.stopped
        assert "used up" in until(lambda: here.told.get("budget"))


def test_what_was_spent_before_counts(tmp_path: Path, stub: Provider) -> None:
    """By another gateway, in dollars; what is on record is given all the same."""
    prices = Prices(currency="USD", models={"m": Price(input=1e6, output=1e6)})  # a dollar a token
    limits = Limits(budget=Budget(1000, "usd"), prices=prices)
    stub.behave(tokens=OUTPUT)
    with limited(tmp_path, stub, limits) as here:
        assert here.enter("a").ask(short("one")).status == 200
        here.end()
    limits = msgspec.structs.replace(limits, budget=Budget(spent(stub), "usd"))
    with limited(tmp_path, stub, limits) as here:
        caller = here.enter("b")
        assert caller.ask(short("one")).status == 200
        assert caller.ask(short("two")).status == 402
    assert len(stub.bills()) == 1


def test_a_model_without_a_price_is_not_asked(tmp_path: Path, stub: Provider) -> None:
    """Under a budget in dollars."""
    prices = Prices(currency="USD", models={"other": Price(input=1, output=1)})
    with limited(tmp_path, stub, Limits(budget=Budget(5, "usd"), prices=prices)) as here:
        got = here.enter("a").ask(short("one"))
        assert got.status == 402
        assert "no price is known for `m`" in got.body.decode()
    assert stub.bills() == []


def test_a_rate_holds_over_all_evals(tmp_path: Path, stub: Provider) -> None:
    """What is over it waits, and the time that it waits is told."""
    with limited(tmp_path, stub, Limits(rpm={"": 4})) as here:
        first, second = here.enter("a"), here.enter("b", "f")
        with ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(caller.ask, short(f"{caller.name} {each}"), timeout=5)
                for each in range(4)
                for caller in (first, second)
            ]
            until(lambda: len(stub.bills()) == 4)
            until(lambda: max(here.account(name).waited for name in "ab") > 1)
            assert len(stub.bills()) == 4
            waiting = [each for each in asked if not each.done()]
            assert len(waiting) == 4
            for each in waiting:
                with pytest.raises(TimeoutError):
                    each.result()
    assert len(stub.bills()) == 4


def test_an_answer_that_does_not_say_what_it_took_counts_later_too(
    tmp_path: Path, stub: Provider
) -> None:
    """As what was reserved for it, with the next gateway."""
    body = {**short("one"), "stream": True}
    at_most = len(json.dumps(body)) + OVERHEAD + OUTPUT
    limits = Limits(budget=Budget(2 * at_most, "tok"))
    with limited(tmp_path, stub, limits) as here:
        caller = here.enter("a")
        assert [caller.ask(body).status for _ in range(3)] == [200, 200, 402]
        here.end()
    with limited(tmp_path, stub, limits) as here:
        assert [here.enter("b").ask(body).status for _ in range(3)] == [200, 200, 402]
    assert len(stub.bills()) == 2


def test_a_rate_holds_over_gateways(tmp_path: Path, stub: Provider) -> None:
    """One that was killed has sent what it has sent."""
    with limited(tmp_path, stub, Limits(rpm={"": 3})) as here:
        caller = here.enter("a")
        for each in range(3):
            caller.ask(short(str(each)))
        old = here.standing().pid
        os.kill(old, signal.SIGKILL)
        until(lambda: (found := here.gateway._standing()) and found.pid != old)
        with pytest.raises(TimeoutError):
            caller.ask(short("more"), timeout=5)
    assert len(stub.bills()) == 3


def test_another_runs_budget_counts_for_what_waits(tmp_path: Path, stub: Provider) -> None:
    """Requests that wait under the old one are decided about anew."""
    with limited(tmp_path, stub, Limits(rpm={"": 1})) as here, ThreadPoolExecutor(1) as pool:
        caller = here.enter("a")
        caller.ask(short("one"))
        waits = pool.submit(caller.ask, short("two"))
        until(lambda: here.account("a").waited)
        here.abandon()
        here.config = msgspec.structs.replace(here.config, limits=Limits(budget=Budget(1, "tok")))
        here.start()
        assert waits.result().status == 402
    assert len(stub.bills()) == 1


def test_an_attempt_that_was_stopped_stays_so(tmp_path: Path, stub: Provider) -> None:
    """Though the gateway that stopped it is gone; what it waited and asked counts, too."""
    with limited(tmp_path, stub, Limits(budget=Budget(600, "tok"))) as here:
        caller = here.enter("a")
        assert caller.ask(short("one")).status == 200
        assert caller.ask({**short("two"), "max_tokens": 10**6}).status == 402
        until(lambda: here.gateway.account("a").stopped)
        old = here.standing().pid
        os.kill(old, signal.SIGKILL)
        until(lambda: (found := here.gateway._standing()) and found.pid != old)
        until(lambda: here.account("a"))
        left = here.gateway.leave("a")
        assert left.kind == "budget"
        assert left.spending.requests == 2
        assert left.waited > 0


def test_an_error_that_nobody_foresaw_blocks_nothing(tmp_path: Path, stub: Provider) -> None:
    """What was reserved counts as perhaps paid, and the next request continues."""
    with limited(tmp_path, stub, Limits(budget=Budget(100_000, "tok"))) as here:
        bad = msgspec.structs.replace(here.config.routes["openai"], headers={"X": "a\nb"})
        good = here.config
        here.abandon()
        here.config = msgspec.structs.replace(good, routes={"openai": bad})
        here.start()
        assert here.enter("a").ask(short("one")).status == 500
        here.abandon()
        here.config = good
        here.start()
        assert here.enter("b", "f").ask(short("two")).status == 200
        failed = here.lines("failed")
        assert [line.get("billed") for line in failed] == [None]

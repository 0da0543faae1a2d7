"""The gateway's process under a budget and a rate: the ledger says what was let through."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from runner.gateway.bounds import OVERHEAD
from runner.gateway.limits import Limits
from runner.gateway.prices import Price, Prices
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

"""Rates over the boundaries of minutes, by the ledger of a provider that bills."""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from runner.gateway.allowance import Limits
from tests.amount import SOAK
from tests.gateway.desk import Caller
from tests.gateway.test_limited import limited, short
from tests.provider import Provider

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SOAK, reason="`make soak` has the time for it"),
]

SECONDS = 125.0
RPM, TPM = 20, 3000

# A minute, less what the way from the gateway to the provider may differ by.
MINUTE = 59.5


def test_no_minute_is_over_its_rate(tmp_path: Path, stub: Provider) -> None:
    """Wherever it begins; two evals ask all the time, and what the limits allow is used."""
    stub.behave(tokens=50, delay=0.1)
    numbers = itertools.count()
    until = time.monotonic() + SECONDS

    def ask(caller: Caller, model: str) -> None:
        while (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                caller.ask({**short(f"{next(numbers)}"), "model": model}, timeout=left)

    limits = Limits(rpm={"by-requests": RPM}, tpm={"by-tokens": TPM})
    with limited(tmp_path, stub, limits) as here, ThreadPoolExecutor(32) as pool:
        callers = here.enter("a"), here.enter("b", "f")
        models = ("by-requests", "by-tokens")
        for caller, model, _ in itertools.product(callers, models, range(8)):
            pool.submit(ask, caller, model)
    asked = {each.number: json.loads(each.body)["model"] for each in stub.requests()}
    bills = stub.bills()
    requests = [(each.at, 1) for each in bills if asked[each.request] == "by-requests"]
    tokens = [
        (each.at, each.tokens.input + each.tokens.output)
        for each in bills
        if asked[each.request] == "by-tokens"
    ]
    print(len(requests), "requests,", sum(count for _, count in tokens), "tokens")
    assert most_in_a_minute(requests) == RPM
    assert 0.8 * TPM < most_in_a_minute(tokens) <= TPM
    # At the beginning, after one minute, and after two.
    assert len(requests) > 2 * RPM
    assert sum(count for _, count in tokens) > 1.6 * TPM


def most_in_a_minute(spent: list[tuple[float, int]]) -> int:
    """The largest sum of any minute."""
    return max(
        sum(count for at, count in spent if begin <= at < begin + MINUTE) for begin, _ in spent
    )

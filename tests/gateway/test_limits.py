from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.errors import UsageError
from runner.gateway.allowance import Go, Limits, Wish, limits_of_run
from runner.gateway.tokens import Bound
from runner.options import RunOptions
from runner.units import Budget, Rate, Upstream


def options(**given: Any) -> RunOptions:  # noqa: ANN401 - any option
    """Options of a run."""
    return RunOptions(model="m", eval_set="s", **given)


def test_limits_can_be_handed_to_another_process(tmp_path: Path) -> None:
    """As JSON, with the prices in it."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {m: {input: 2, output: 8}}")
    limits = limits_of_run(
        options(
            budget=Budget(5, "usd"),
            prices=prices,
            rpm=(Rate("", 9), Rate("m", 3)),
            tpm=(Rate("", 8),),
        ),
        model="m",
    )
    assert (limits.rpm, limits.tpm) == ({"": 9, "m": 3}, {"": 8})
    again = msgspec.json.decode(msgspec.json.encode(limits), type=Limits)
    assert again == limits
    allowance = again.allowance(spent=1.5)
    wish = Wish(attempt="a", route="openai", model="m", bound=Bound(output=8))
    found = allowance.ask(wish, 0.0)
    assert isinstance(found, Go)
    assert (found.reservation.usd, allowance.spent) == (0.000064, 1.5)


def test_without_options_there_are_no_limits() -> None:
    """Neither of money nor of rate."""
    assert limits_of_run(options()) == limits_of_run(options(gateway=False)) == Limits()


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--budget", {"budget": Budget(5, "tok")}),
        ("--rpm", {"rpm": (Rate("", 1),)}),
        ("--tpm", {"tpm": (Rate("", 1),)}),
        ("--upstream", {"upstreams": (Upstream("a", "http://a"),)}),
    ],
)
def test_only_the_gateway_can_keep_a_limit(option: str, given: dict[str, Any]) -> None:
    """Without it, money would be spent as if there were none."""
    limits_of_run(options(**given))
    with pytest.raises(UsageError) as caught:
        limits_of_run(options(gateway=False, **given))
    assert str(caught.value) == (
        f"{option} needs the gateway; leave out --no-gateway, or {option} itself"
    )


def test_a_budget_in_dollars_is_checked_with_its_prices(tmp_path: Path) -> None:
    """Of the run's model, where its provider knows it by that name."""
    with pytest.raises(UsageError, match="needs to know what models cost"):
        limits_of_run(options(budget=Budget(5, "usd")))
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {other: {input: 2, output: 8}}")
    given = options(budget=Budget(5, "usd"), prices=prices)
    limits_of_run(given)
    with pytest.raises(UsageError, match="no price is known for `m`"):
        limits_of_run(given, model="m")
    with pytest.raises(UsageError, match="--rpm has two limits for all models"):
        limits_of_run(options(rpm=(Rate("", 1), Rate("", 2))))

"""What models cost, according to a file of the user's.

evalset has no prices, because they change, and differ by contract, region and service tier. Users
can see whether their file is out of date; nobody would see it of a file in a release.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import UsageError
from runner.files import named
from runner.registry.entries import parse_mapping
from runner.registry.resolve import names_matching
from runner.units import Budget, show_budget

# Prices are for this many tokens.
PER = 1_000_000

# The currency of a budget in money.
DOLLARS = "USD"

# What to do about a model without a price.
ADD_IT = "add it to the file of --prices"

# What to do once a budget is used up.
RAISE_BUDGET = "raise --budget, and run the same command again"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens of a model cost; those from a cache cost as much as others if None."""

    input: float
    output: float
    cached_input: float | None = None

    def cost(self, *, input: int, output: int, cached: int = 0) -> float:  # noqa: A002 - the field's word
        """What tokens cost, in the file's currency; `input` includes those that are `cached`."""
        less = 0.0 if self.cached_input is None else self.input - self.cached_input
        return (input * self.input - cached * less + output * self.output) / PER


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """A file of prices: a currency, and models by pattern of their names, in the file's order."""

    currency: str
    models: Mapping[str, Price]

    @property
    def is_in_dollars(self) -> bool:
        """Whether a budget in US dollars can be counted with these prices."""
        return self.currency.upper() == DOLLARS

    def of(self, model: str) -> Price | None:
        """The price for the model's own name, else for the longest pattern; None without any."""
        if model in self.models:
            return self.models[model]
        found = [name for name in self.models if names_matching(name, [model])]
        return self.models[max(found, key=len)] if found else None


def read_prices(path: Path | None) -> Prices | None:
    """Read a file of prices, if the user named one.

    Raises:
        UsageError: it is not a file of prices.
        EnvironmentFault: it cannot be read.
    """
    if path is None:
        return None
    with named(path, "read"):
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            raise UsageError(f"--prices {path}: there is no such file", "check its path") from None
        except UnicodeDecodeError:
            raise UsageError(f"--prices {path}: it is not text", "write it as UTF-8") from None
    return parse_prices(str(path), text)


def parse_prices(path: str, text: str) -> Prices:
    """Read YAML with a `currency` and, under `models`, an `input` and an `output` for each.

    Raises:
        UsageError: it is not of that form.
    """
    content = parse_mapping(path, text)
    if unknown := sorted(content.keys() - {"currency", "models"}):
        raise UsageError(f"{path}: unknown key `{unknown[0]}`", "there are `currency` and `models`")
    currency = content.get("currency", DOLLARS)
    if not isinstance(currency, str) or not currency.strip():
        raise UsageError(f"{path}: `currency` is not text such as USD")
    models = content.get("models")
    if not isinstance(models, dict) or not models:
        raise UsageError(f"{path}: `models` is missing", "give an `input` and an `output` for each")
    return Prices(
        currency=currency.strip(),
        models={str(name): _price(f"{path}: `{name}`", one) for name, one in models.items()},
    )


def _price(where: str, content: Any) -> Price:  # noqa: ANN401 - YAML
    both = {"input", "output"}
    if not isinstance(content, dict) or content.keys() - {"cached_input"} != both:
        raise UsageError(
            f"{where} takes `input`, `output` and, if it is lower, `cached_input`",
            "give each per million tokens",
        )
    for key, value in content.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise UsageError(f"{where}: `{key}` is not a price such as 2.5")
    if content.get("cached_input", 0) > content["input"]:
        raise UsageError(f"{where}: `cached_input` is higher than `input`", "correct one of them")
    return Price(**{key: float(value) for key, value in content.items()})


def check_budget(budget: Budget | None, prices: Prices | None, *, model: str | None = None) -> None:
    """Refuse a budget that cannot be kept: one in money without prices in US dollars.

    Args:
        budget: None for none.
        model: one that will be asked, by its provider's name for it; None if only requests will
            show it.

    Raises:
        UsageError: it says which price is missing.
    """
    if budget is None or budget.unit != "usd":
        return
    if prices is None:
        raise UsageError(
            f"--budget {show_budget(budget)} needs to know what models cost",
            "add --prices FILE, or give the budget in tokens, as 2mtok",
        )
    if not prices.is_in_dollars:
        raise UsageError(
            f"--budget {show_budget(budget)} is in US dollars, and the prices are in "
            f"{prices.currency}",
            "give them in USD, or the budget in tokens",
        )
    if model is not None and prices.of(model) is None:
        raise UsageError(no_price(model), ADD_IT)


def no_price(model: str) -> str:
    """The error for a model without a price, which a budget in money needs."""
    return f"no price is known for `{model}`, and the budget is in US dollars"

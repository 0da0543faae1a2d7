import math
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.errors import UsageError
from runner.plan.document import parse_mapping
from runner.plan.pattern import matching

# Prices are for so many tokens.
PER = 1_000_000
_KEYS = ("input", "output")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens of a model cost."""

    input: float
    output: float


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """A file of prices.

    Attributes:
        currency: as the file has it.
        models: by pattern of their names, in the file's order.
    """

    currency: str
    models: Mapping[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model: that of its own name, or else of the first pattern with it."""
        if model in self.models:
            return self.models[model]
        return next((self.models[one] for one in self.models if matching(one, [model])), None)

    def cost(self, model: str, prompt: int, completion: int) -> float | None:
        """What tokens cost; None where the model has no price."""
        price = self.of(model)
        if price is None:
            return None
        return (prompt * price.input + completion * price.output) / PER


def parse_prices(path: str, text: str) -> Prices:
    """Read a file of prices.

    Args:
        path: of the file, for messages.
        text: YAML, with a `currency` and under `models` an `input` and an `output` for each.

    Raises:
        UsageError: it is not of that form.
    """
    content = parse_mapping(path, text)
    if unknown := sorted(content.keys() - {"currency", "models"}):
        raise UsageError(f"{path}: unknown key `{unknown[0]}`; there are `currency` and `models`")
    currency = content.get("currency", "USD")
    if not isinstance(currency, str) or not currency.strip():
        raise UsageError(f"{path}: `currency` is no text such as USD")
    models = content.get("models")
    if not isinstance(models, dict) or not models:
        raise UsageError(f"{path}: `models` is missing; give an `input` and an `output` for each")
    return Prices(
        currency=currency.strip(),
        models={str(name): _price(f"{path}: `{name}`", one) for name, one in models.items()},
    )


def _price(where: str, content: Any) -> Price:  # noqa: ANN401 - YAML
    if not isinstance(content, dict) or content.keys() != set(_KEYS):
        raise UsageError(f"{where} takes `input` and `output`, each per million tokens")
    for key in _KEYS:
        value = content[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise UsageError(f"{where}: `{key}` is no price such as 2.5")
    return Price(input=float(content["input"]), output=float(content["output"]))

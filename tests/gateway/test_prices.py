from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.gateway.prices import Price, check_budget, parse_prices, read_prices
from runner.units import Budget

FILE = """
currency: EUR
models:
  aria-*: {input: 1, output: 2.5}
  aria-large: {input: 30, output: 60}
"""
DOLLARS = Budget(5, "usd")


def test_tokens_cost_what_a_million_of_them_costs() -> None:
    """Those that go in and those that come out, each at its price."""
    prices = parse_prices("f", FILE)
    price = prices.of("aria-small")
    assert prices.currency == "EUR"
    assert price is not None
    assert price.cost(input=2_000_000, output=1_000_000) == 4.5


def test_a_name_comes_before_patterns() -> None:
    """Wherever it stands."""
    assert parse_prices("f", FILE).of("aria-large") == Price(input=30, output=60)


@pytest.mark.parametrize("order", [("g*", "gpt-4*"), ("gpt-4*", "g*")])
def test_the_longest_pattern_comes_first(order: tuple[str, str]) -> None:
    """Wherever it stands, because it says more of the model; of two as long, the first."""
    price = {"g*": 1, "gpt-4*": 2}
    entries = ", ".join(f"{name!r}: {{input: {price[name]}, output: 0}}" for name in order)
    prices = parse_prices("f", f"models: {{{entries}, '*-mini': {{input: 3, output: 0}}}}")
    found = {name: prices.of(name) for name in ("gpt-3.5", "gpt-4o", "gpt-4o-mini", "claude")}
    assert {name: price and price.input for name, price in found.items()} == {
        "gpt-3.5": 1,
        "gpt-4o": 2,
        "gpt-4o-mini": 2,
        "claude": None,
    }


def test_tokens_from_a_cache_may_cost_less() -> None:
    """They are counted among those of the prompt."""
    text = "models: {m: {input: 2, output: 8, cached_input: 0.5}, n: {input: 2, output: 8}}"
    with_cache, without = (parse_prices("f", text).of(name) for name in "mn")
    assert with_cache is not None
    assert without is not None
    counts = {"input": 1_000_000, "output": 0, "cached": 400_000}
    assert with_cache.cost(**counts) == pytest.approx(0.6 * 2 + 0.4 * 0.5)
    assert without.cost(**counts) == 2


def test_dollars_are_the_default() -> None:
    """Most prices are in them."""
    assert parse_prices("f", "models: {m: {input: 0, output: 0}}").currency == "USD"


TAKES = "f: `m` takes `input`, `output` and, if it is lower, `cached_input`; give each per million"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f: `models` is missing"),
        ("models: {}", "f: `models` is missing"),
        ("models: [1]", "f: `models` is missing"),
        ("prices: {}", "f: unknown key `prices`"),
        ("[1]", "f, line 1: expected a mapping"),
        ("models: {m: 3}", TAKES),
        ("models: {m: {input: 3}}", TAKES),
        ("models: {m: {input: 3, output: 1, cached: 2}}", TAKES),
        ("models: {m: {input: -3, output: 1}}", "f: `m`: `input` is not a price"),
        ("models: {m: {input: 3, output: .inf}}", "f: `m`: `output` is not a price"),
        ("models: {m: {input: yes, output: 1}}", "f: `m`: `input` is not a price"),
        ("models: {m: {input: 3, output: 1, cached_input: x}}", "f: `m`: `cached_input` is not a"),
        (
            "models: {m: {input: 3, output: 1, cached_input: 4}}",
            "f: `m`: `cached_input` is higher than `input`; correct one of them",
        ),
        ("{currency: 3, models: {m: {input: 3, output: 1}}}", "f: `currency` is not text"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, said: str) -> None:
    """On one line that names the file and what is wrong."""
    with pytest.raises(UsageError) as caught:
        parse_prices("f", text)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_where_one_is_named(tmp_path: Path) -> None:
    """What is none is refused under the option's name."""
    assert read_prices(None) is None
    path = tmp_path / "prices.yaml"
    with pytest.raises(UsageError, match=r"^--prices .*: there is no such file; check its path$"):
        read_prices(path)
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"^--prices .*: it is not text; write it as UTF-8$"):
        read_prices(path)
    path.write_text(FILE)
    assert read_prices(path) == parse_prices("f", FILE)


def test_a_budget_in_tokens_needs_no_prices() -> None:
    """Nor does none at all."""
    check_budget(Budget(5, "tok"), None, model="m")
    check_budget(None, None, model="m")


def test_a_budget_in_dollars_needs_prices_in_dollars() -> None:
    """Of a model that is known, too; each line has its cure."""
    with pytest.raises(UsageError) as caught:
        check_budget(DOLLARS, None)
    assert str(caught.value) == (
        "--budget 5usd needs to know what models cost; "
        "add --prices FILE, or give the budget in tokens, as 2mtok"
    )
    with pytest.raises(UsageError) as caught:
        check_budget(DOLLARS, parse_prices("f", FILE))
    assert str(caught.value) == (
        "--budget 5usd is in US dollars, and the prices are in EUR; "
        "give them in USD, or the budget in tokens"
    )
    prices = parse_prices("f", FILE.replace("EUR", "usd"))
    check_budget(DOLLARS, prices)
    check_budget(DOLLARS, prices, model="aria-9")
    with pytest.raises(UsageError) as caught:
        check_budget(DOLLARS, prices, model="other")
    assert str(caught.value) == (
        "no price is known for `other`, and the budget is in US dollars; "
        "add it to the file of --prices"
    )

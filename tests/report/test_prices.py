import pytest

from runner.errors import UsageError
from runner.records.samples import Usage
from runner.report.facts import parse_prices

FILE = """
currency: EUR
models:
  aria-*: {input: 1, output: 2.5}
  aria-large: {input: 30, output: 60}
"""


def test_tokens_cost_what_a_million_of_them_costs() -> None:
    """Those that go in and those that come out, each at its price."""
    prices = parse_prices("f", FILE)
    assert prices.currency == "EUR"
    assert prices.cost("aria-small", Usage(2_000_000, 1_000_000)) == 4.5


def test_a_name_comes_before_patterns() -> None:
    """Wherever it stands."""
    assert parse_prices("f", FILE).cost("aria-large", Usage(1_000_000, 0)) == 30


def test_a_model_without_a_price_costs_nobody_knows() -> None:
    """That is not nothing."""
    assert parse_prices("f", FILE).cost("other", Usage(1, 1)) is None


def test_dollars_are_the_default() -> None:
    """Most prices are in them."""
    assert parse_prices("f", "models: {m: {input: 0, output: 0}}").currency == "USD"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f: `models` is missing"),
        ("models: {}", "f: `models` is missing"),
        ("models: [1]", "f: `models` is missing"),
        ("prices: {}", "f: unknown key `prices`"),
        ("[1]", "f, line 1: expected a mapping"),
        ("models: {m: 3}", "f: `m` takes `input` and `output`"),
        ("models: {m: {input: 3}}", "f: `m` takes `input` and `output`"),
        ("models: {m: {input: 3, output: 1, cached: 2}}", "f: `m` takes `input` and `output`"),
        ("models: {m: {input: -3, output: 1}}", "f: `m`: `input` is not a price"),
        ("models: {m: {input: 3, output: .inf}}", "f: `m`: `output` is not a price"),
        ("models: {m: {input: yes, output: 1}}", "f: `m`: `input` is not a price"),
        ("{currency: 3, models: {m: {input: 3, output: 1}}}", "f: `currency` is not text"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, said: str) -> None:
    """On one line that names the file and what is wrong."""
    with pytest.raises(UsageError) as caught:
        parse_prices("f", text)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.secrets import MASKED, NO_MASK, Mask

SECRET = 'sk-a/b+c"d\\e=0123456789'  # noqa: S105 - made up
MASK = Mask({"OPENAI_API_KEY": SECRET, "EVALS_PASSWORD": "12345678", "SHORT_KEY": "abc"})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just(f"x{SECRET}"), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(json.dumps(SECRET)[1:-1])[1:-1],
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_each_form_of_a_value_is_masked(form: str) -> None:
    """As it is, escaped and encoded; what stands around it stays."""
    masked = MASK.text(f"it is {form}, they say")
    assert form not in masked
    assert masked.startswith(f"it is {MASKED}")
    assert masked.endswith(", they say")


@given(value=json_values)
def test_no_value_of_json_keeps_a_secret(value: object) -> None:
    """Wherever it stands, and what has none is as it was."""
    masked = MASK.value(value)
    assert SECRET not in json.dumps(masked, ensure_ascii=False).replace('\\"', '"').replace(
        "\\\\", "\\"
    )
    if SECRET not in str(value) and json.dumps(SECRET)[1:-1] not in json.dumps(value):
        assert masked == value


def test_a_number_that_is_a_secret_is_masked() -> None:
    """A figure that only begins alike is not."""
    assert MASK.value({"a": 12345678, "b": 0.5, "c": 1234567}) == {
        "a": MASKED,
        "b": 0.5,
        "c": 1234567,
    }


def test_short_and_public_values_stay() -> None:
    """They are words that stand there for other reasons."""
    mask = Mask({"SHORT_KEY": "abc", "MY_URL": "https://example.org/v1", "EVALS_THREADS": "10"})
    text = "abc 10 https://example.org/v1"
    assert mask.text(text) == text


def test_what_the_command_line_has_stays() -> None:
    """A model's name may be in a variable, too, and logs are called by it."""
    mask = Mask(
        {"MODEL_NAME": "gpt-4-turbo", "KEY": "sk-0123456789"}, public=("oaieval", "gpt-4-turbo")
    )
    assert mask.text("x_gpt-4-turbo_y sk-0123456789") == f"x_gpt-4-turbo_y {MASKED}"


def test_of_two_values_the_longer_goes_first() -> None:
    """No rest of it stays."""
    mask = Mask({"A_KEY": "0123456789", "B_KEY": "0123456789abc"})
    assert mask.text("0123456789abc") == MASKED


def test_without_variables_nothing_is_masked() -> None:
    """The same object comes back."""
    value = {"a": [SECRET]}
    assert NO_MASK.value(value) is value
    assert NO_MASK.text(SECRET) == SECRET


def test_a_value_that_is_no_text_is_masked() -> None:
    """As bytes of a log are, where they are shown."""
    assert Mask({"A_KEY": "pass\udcffword"}).text("a pass\udcffword b") == f"a {MASKED} b"

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.text import duration, evals, harmless, one_line

WEIRD = st.text(st.characters(codec="utf-8") | st.sampled_from("\x1b[\x9b\r\n\x07\x08\u202e31m"))


@given(text=WEIRD)
def test_no_control_character_survives(text: str) -> None:
    """A terminal obeys none of the rest, and text cannot be made to run backwards."""
    for character in harmless(text):
        assert character in "\t\n" or unicodedata.category(character) != "Cc"
        assert unicodedata.bidirectional(character) not in {"LRE", "RLE", "LRO", "RLO", "PDF"}
        assert unicodedata.bidirectional(character) not in {"LRI", "RLI", "FSI", "PDI"}


@given(text=WEIRD)
def test_harmless_text_is_left_as_it_is(text: str) -> None:
    """Cleaning twice is cleaning once."""
    once = harmless(text)
    assert harmless(once) == once


@given(text=WEIRD)
def test_one_line_is_one(text: str) -> None:
    """However many the text had."""
    assert "\n" not in one_line(text)
    assert "\r" not in one_line(text)


def test_colours_go_without_a_trace() -> None:
    """Most logs have them, and marks in their place would be noise."""
    assert harmless("\x1b[1;31mred\x1b[0m text") == "red text"


def test_line_ends_of_all_kinds_are_line_ends() -> None:
    """A carriage return would let an eval write over what stands there."""
    assert harmless("a\r\nb\rc\n") == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (4.24, "4.2 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (60, "1 min 00 s"),
        (185.4, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    """At most two units, rounded so that no unit overflows."""
    assert duration(seconds) == text


def test_one_eval_is_not_evals() -> None:
    """The number decides the form."""
    assert [evals(count) for count in (0, 1, 2)] == ["0 evals", "1 eval", "2 evals"]

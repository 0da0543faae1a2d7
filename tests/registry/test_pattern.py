import re

from hypothesis import given
from hypothesis import strategies as st

from runner.registry.resolve import names_matching

TEXT = st.text("ab.*", max_size=6)


def test_everything_but_the_star_is_literal() -> None:
    """A dot, a bracket or a plus in a pattern matches itself alone."""
    assert names_matching("a.b", ["a.b", "axb"]) == ["a.b"]
    assert names_matching("a.*", ["a.b", "ab", "a.", "axb"]) == ["a.b", "a."]
    assert names_matching("a+*", ["aa", "a+c"]) == ["a+c"]


def test_parts_around_a_star_do_not_overlap() -> None:
    """`ab*ba` needs four letters at the least."""
    assert names_matching("ab*ba", ["aba", "abba", "abxba"]) == ["abba", "abxba"]
    assert names_matching("*ab*ba*", ["aba", "abba", "xabxbax"]) == ["abba", "xabxbax"]
    assert names_matching("a*a*b", ["ab", "aab", "ba"]) == ["aab"]
    assert names_matching("a*b*b", ["ab", "abb", "ba"]) == ["abb"]


def test_parts_between_stars_follow_each_other_in_their_order() -> None:
    """Each as early as it can, so that there is room for the next."""
    assert names_matching("*a*b*", ["ba", "ab", "aba"]) == ["ab", "aba"]
    assert names_matching("*a*b*c*", ["abc", "cab", "acb", "xaxbxcx"]) == ["abc", "xaxbxcx"]


@given(TEXT, st.lists(st.text("ab.", max_size=8)))
def test_patterns_agree_with_regular_expressions(pattern: str, names: list[str]) -> None:
    """`*` is `.*`, whatever surrounds it."""
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    assert names_matching(pattern, names) == [name for name in names if expression.fullmatch(name)]

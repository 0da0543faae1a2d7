from runner.errors import did_you_mean


def test_the_closest_come_first_and_three_at_most() -> None:
    """A message names no more than a person looks at."""
    names = ["abcd9999", "abcd", "abcx", "abce", "abcf"]
    assert did_you_mean("abcd", names) == "did you mean `abcd` or `abcx` or `abcf`?"


def test_a_name_cut_short_is_close_to_the_whole() -> None:
    """By difflib's measure alone it would be far from it; none is named twice."""
    assert did_you_mean("te", ["test-basic", "other"]) == "did you mean `test-basic`?"
    assert did_you_mean("test", ["tests"]) == "did you mean `tests`?"
    many = [f"te-{number}-and-much-more" for number in range(4)]
    assert did_you_mean("te", many).count("`te-") == 3


def test_what_is_close_to_nothing_has_no_hint() -> None:
    """Neither has an empty name, which every name begins with."""
    assert did_you_mean("zzz", ["test"]) == ""
    assert did_you_mean("", ["test"]) == ""

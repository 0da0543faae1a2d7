import pytest

from runner.plan.cutoffs import Streak


def counted(most: int, *failures: tuple[str, list[str]]) -> list[bool]:
    """What each failure is taken for, in order."""
    streak = Streak(most)
    return [streak.failure(reason, printed) for reason, printed in failures]


def test_so_many_alike_in_a_row_are_told_once() -> None:
    """The one that completes the row says so, and none after it."""
    assert counted(3, *[("status 1", ["no key"])] * 5) == [False, False, True, False, False]


def test_zero_is_never() -> None:
    """Whoever wants all evals tried gets them tried."""
    assert not any(counted(0, *[("status 1", ["no key"])] * 9))


def test_one_is_the_first_failure() -> None:
    """The smallest row is a single one."""
    assert counted(1, ("status 1", [])) == [True]


def test_a_success_begins_the_row_anew() -> None:
    """What one eval did not have is not common."""
    streak = Streak(2)
    assert not streak.failure("status 1", ["no key"])
    streak.success()
    assert not streak.failure("status 1", ["no key"])
    assert streak.failure("status 1", ["no key"])
    assert streak.count == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "Error 401 at 0x7f01: request 8a2b9c1d-0001",
            "Error 401 at 0x7fff: request 01234567-ab12",
        ),
        ("took 3 s", "took 17 s"),
        (" indented", "indented"),
    ],
)
def test_what_differs_by_chance_is_alike(one: str, other: str) -> None:
    """Numbers, ids and addresses are not the cause."""
    assert counted(2, ("status 1", [one]), ("status 1", [other])) == [False, True]


def test_the_order_of_output_and_error_does_not_matter() -> None:
    """The two streams of a container mix as they like."""
    assert counted(2, ("s", ["out", "why"]), ("s", ["why", "out"])) == [False, True]
    assert counted(2, ("s", ["a", "why"]), ("s", ["why", "b"])) == [False, True]


@pytest.mark.parametrize(
    "failures",
    [
        [("status 1", ["no key"]), ("status 2", ["no key"])],
        [("status 1", ["no key"]), ("status 1", ["no network"])],
        [("status 1", ["no key"]), ("status 1", [])],
        [("status 1", ["start", "a"]), ("status 1", ["start", "b"])],
        [("status 1", ["a", "middle", "b"]), ("status 1", ["c", "middle", "d"])],
    ],
)
def test_other_failures_are_not_alike(failures: list[tuple[str, list[str]]]) -> None:
    """Another status, another last line, or none: each may have its own cause."""
    assert counted(2, *failures) == [False, False]


def test_those_that_print_nothing_are_alike_by_their_reason() -> None:
    """An eval may die without a word."""
    assert counted(2, ("status 1", []), ("status 1", [])) == [False, True]


def test_a_row_begins_with_nothing() -> None:
    """A first failure without a reason is like no other; neither is one after a success."""
    streak = Streak(2)
    assert streak.count == 0
    assert not streak.failure("", [])
    streak.success()
    assert streak.count == 0
    assert not streak.failure("", [])


def test_an_id_in_a_reason_is_no_difference() -> None:
    """The engine's words for what it refuses have some; its numbers tell causes apart."""
    ids = ("261121AB3DEFGH", "2611X9ZZZZZZ")
    one, other = (f"refused: no room for /a/{attempt}" for attempt in ids)
    assert counted(2, (one, []), (other, [])) == [False, True]


def test_what_takes_long_to_fail_is_like_nothing() -> None:
    """A cause that meets every eval meets it at once; a row begins anew."""
    streak = Streak(2)
    assert not streak.failure("s", ["why"], seconds=300)
    assert not streak.failure("s", ["why"], seconds=301)
    assert not streak.failure("s", ["why"], seconds=1)
    assert streak.failure("s", ["why"], seconds=300)

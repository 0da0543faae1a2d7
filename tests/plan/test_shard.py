import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.plan.plan import Shard, parse_shard, take_shard


@given(st.lists(st.integers()), st.integers(1, 12))
def test_shards_are_disjoint_complete_and_balanced(items: list[int], count: int) -> None:
    """Every item is in exactly one shard, in order, and shards differ by one item at the most."""
    numbered = list(enumerate(items))
    parts = [take_shard(numbered, Shard(index=index, count=count)) for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == numbered
    assert all(list(part) == sorted(part) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_is_read_from_its_two_numbers() -> None:
    """`2/4` is the second of four."""
    assert parse_shard("2/4") == Shard(index=2, count=4)
    assert parse_shard("1/1") == Shard(index=1, count=1)


@pytest.mark.parametrize(
    "text", ["4/3", "0/3", "1/0", "0/0", "a/b", "1", "", "1/2/3", "-1/3", "²/3"]
)
def test_a_shard_that_cannot_be_is_refused(text: str) -> None:
    """A shard outside of 1 to N, or of another form, is a usage error that quotes it."""
    with pytest.raises(UsageError, match="I/N") as caught:
        parse_shard(text)
    assert f"`{text}`" in str(caught.value)

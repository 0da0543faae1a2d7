import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from runner.errors import UsageError

Item = TypeVar("Item")


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """The `index`-th of `count` disjoint parts of a plan, counted from 1."""

    index: int
    count: int


def parse_shard(text: str) -> Shard:
    """Read `I/N`.

    Raises:
        UsageError: it is not of that form, or I is not from 1 to N.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if found is None:
        raise UsageError(f"shard `{text}` is not of the form I/N, as 2/4 for the second of four")
    index, count = int(found[1]), int(found[2])
    if not 1 <= index <= count:
        raise UsageError(f"shard `{text}`: I in I/N goes from 1 to N")
    return Shard(index=index, count=count)


def take(items: Sequence[Item], shard: Shard) -> tuple[Item, ...]:
    """Deal the items out in turn, and give this shard's.

    Neighbours in a plan are often alike, and alike in length, so turns balance better than
    blocks. All items must come, finished ones too: else hosts that know of different progress
    would cut differently, and run an eval twice or not at all.
    """
    return tuple(items[shard.index - 1 :: shard.count])

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.registry.resolve import names_matching


def select_evals(
    evals: Sequence[str],
    names: Mapping[str, Sequence[str]],
    select: Sequence[str],
    exclude: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply a selection; an exclusion that matches nothing harms nobody and is a warning.

    Args:
        evals: resolved keys, in order.
        names: for each key the names, aliases too, that a pattern may use for it.
        select: patterns of the evals to run; none selects all.

    Returns:
        The keys that are left, each once and in order, and the warnings.

    Raises:
        UsageError: a selection matches nothing, or nothing is left.
    """
    evals = tuple(dict.fromkeys(evals))
    if not select and not exclude:
        return evals, ()
    keys: dict[str, list[str]] = {}
    for key in evals:
        for name in dict.fromkeys([key, *names.get(key, ())]):
            keys.setdefault(name, []).append(key)

    def covered(pattern: str) -> set[str]:
        return {key for name in names_matching(pattern, keys) for key in keys[name]}

    selected = set() if select else set(evals)
    for pattern in select:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys) or "`evalset list evals` shows all"
            raise UsageError(f"--select `{pattern}` matches no eval of the set", hint)
        selected |= found
    warnings = []
    for pattern in exclude:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys)
            warnings.append(
                f"--exclude `{pattern}` matches no eval of the set{hint and f'; {hint}'}"
            )
        selected -= found
    if not selected:
        raise UsageError(
            f"--select and --exclude leave none of the set's {len(evals)} evals",
            "change one of them",
        )
    return tuple(key for key in evals if key in selected), tuple(warnings)


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


def take_shard(items: Sequence[Item], shard: Shard) -> tuple[Item, ...]:
    """Deal the items out in turn, and give this shard's.

    Neighbours in a plan are often alike, and alike in length, so turns balance better than
    blocks. All items must come, finished ones too: else hosts that know of different progress
    would cut differently, and run an eval twice or not at all.
    """
    return tuple(items[shard.index - 1 :: shard.count])

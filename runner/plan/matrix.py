from collections.abc import Sequence

import msgspec

from runner.errors import UsageError
from runner.plan.names import check_names

# What GitHub runs for one matrix; it refuses a larger one as a whole.
MOST_JOBS = 256


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How many evals one model and eval set come down to."""

    model: str
    eval_set: str
    evals: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a matrix: one shard of an eval set with a model.

    Attributes:
        model: as given to `evalset run`.
        eval_set: as given to `evalset run`.
        shard: `I/N`, as `evalset run --shard` takes it.
    """

    model: str
    eval_set: str
    shard: str


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """What `strategy.matrix` of a workflow takes, encoded as JSON.

    Attributes:
        include: the jobs, the shards of one model and eval set side by side.
    """

    include: tuple[Entry, ...]


def combine(models: Sequence[str], eval_sets: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair each model with each eval set.

    Raises:
        UsageError: one of them stands twice, or can name no files.
    """
    for option, names in (("--model", models), ("--eval-set", eval_sets)):
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"{option} `{name}` stands twice; leave one out")
    pairs = tuple((model, eval_set) for model in models for eval_set in eval_sets)
    for model, eval_set in pairs:
        check_names(model, eval_set)
    return pairs


def make_matrix(
    sizes: Sequence[Size], *, shards: int | None, per_shard: int | None
) -> tuple[Matrix, tuple[str, ...]]:
    """Cut each model and eval set into shards; none of them is empty.

    Args:
        sizes: the models and eval sets.
        shards: at the most so many for each; None is as many as `per_shard` asks for.
        per_shard: as many as it takes for each to have no more evals; None cuts into `shards`.

    Returns:
        The matrix, and one line for each that was not cut as asked for.

    Raises:
        UsageError: there are more shards than GitHub runs in one matrix.
    """
    entries: list[Entry] = []
    warnings: list[str] = []
    for size in sizes:
        wanted = size.evals if per_shard is None else _parts(size.evals, per_shard)
        count = max(1, min(wanted, shards or wanted))
        name = f"{size.model} {size.eval_set}"
        if per_shard is None and shards is not None and count < shards:
            warnings.append(f"{name} gets {count} shards instead of {shards}: it has no more evals")
        if count < wanted and per_shard is not None:
            warnings.append(
                f"{name} gets {count} shards of up to {_parts(size.evals, count)} evals, more "
                f"than {per_shard}: raise --shards for smaller ones"
            )
        entries += [
            Entry(model=size.model, eval_set=size.eval_set, shard=f"{index}/{count}")
            for index in range(1, count + 1)
        ]
    if len(entries) > MOST_JOBS:
        raise UsageError(
            f"the matrix would have {len(entries)} jobs, and GitHub runs at most {MOST_JOBS}; "
            "ask for fewer shards (lower --shards, higher --per-shard), or for fewer at a time"
        )
    return Matrix(include=tuple(entries)), tuple(warnings)


def _parts(items: int, size: int) -> int:
    """How many parts of at most this size make up the items; or the other way round."""
    return -(-items // size)

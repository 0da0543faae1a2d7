import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.commands.matrix import MOST_JOBS, Size, combine, make_matrix
from runner.errors import UsageError
from runner.plan.plan import parse_shard, take_shard

SIZES = st.lists(
    st.builds(Size, model=st.just("m"), eval_set=st.just("s"), evals=st.integers(1, 40)),
    max_size=4,
)


def size(evals: int) -> Size:
    """An eval set of so many evals."""
    return Size(model="m", eval_set="s", evals=evals)


def shards(evals: int, *, shards: int | None = None, per_shard: int | None = None) -> list[str]:
    """The shards of one eval set of so many evals."""
    matrix, _ = make_matrix([size(evals)], shards=shards, per_shard=per_shard)
    return [entry.shard for entry in matrix]


def test_each_model_and_eval_set_gets_its_shards() -> None:
    """Side by side, in the order in which they were given."""
    sizes = [Size(model="m", eval_set=name, evals=5) for name in ("s", "t")]
    matrix, warnings = make_matrix(sizes, shards=2, per_shard=None)
    assert [(e.model, e.eval_set, e.shard) for e in matrix] == [
        ("m", "s", "1/2"),
        ("m", "s", "2/2"),
        ("m", "t", "1/2"),
        ("m", "t", "2/2"),
    ]
    assert not warnings


def test_as_many_shards_as_their_size_asks_for() -> None:
    """`--per-shard` is the most that a shard has; `--shards` next to it is the most shards."""
    assert shards(10, per_shard=4) == ["1/3", "2/3", "3/3"]
    assert shards(10, per_shard=10) == ["1/1"]
    assert shards(10, per_shard=4, shards=5) == ["1/3", "2/3", "3/3"]
    assert shards(10, per_shard=4, shards=2) == ["1/2", "2/2"]


@given(SIZES, st.none() | st.integers(1, 50), st.none() | st.integers(1, 50))
def test_no_shard_is_empty_and_none_too_large(
    sizes: list[Size], most: int | None, per_shard: int | None
) -> None:
    """Every eval is in one shard, and each shard has one; what was asked for is kept or told."""
    if most is None and per_shard is None:
        per_shard = 1
    matrix, warnings = make_matrix(sizes, shards=most, per_shard=per_shard)
    parts = [parse_shard(entry.shard) for entry in matrix]
    dealt = iter(parts)
    short = 0
    for each in sizes:
        first = next(dealt)
        cut = [first, *(next(dealt) for _ in range(first.count - 1))]
        found = [take_shard(range(each.evals), part) for part in cut]
        assert sorted(item for part in found for item in part) == list(range(each.evals))
        assert all(found)
        assert most is None or len(found) <= most
        if per_shard is None:
            short += len(found) != most
        else:
            short += max(map(len, found)) > per_shard
    assert len(warnings) == short


def test_fewer_shards_than_asked_for_are_told() -> None:
    """A shard without an eval would be a job for nothing."""
    matrix, (warning,) = make_matrix([size(3)], shards=4, per_shard=None)
    assert len(matrix) == 3
    assert warning == "m s gets 3 shards instead of 4: it has no more evals"


def test_larger_shards_than_asked_for_are_told() -> None:
    """The two numbers cannot always be had together."""
    _, (warning,) = make_matrix([size(10)], shards=2, per_shard=4)
    assert warning.startswith("m s gets 2 shards of up to 5 evals, more than 4: raise --shards")


def test_more_jobs_than_github_runs_are_refused() -> None:
    """It would refuse the whole matrix, and say so only once the workflow runs."""
    matrix, _ = make_matrix([size(MOST_JOBS)], shards=None, per_shard=1)
    assert len(matrix) == MOST_JOBS
    with pytest.raises(UsageError, match="would have 257 jobs, and GitHub runs at most 256; ask"):
        make_matrix([size(MOST_JOBS), size(1)], shards=None, per_shard=1)


def test_models_and_eval_sets_are_combined() -> None:
    """Each model with each eval set."""
    assert combine(["a", "b"], ["s", "t"]) == (("a", "s"), ("a", "t"), ("b", "s"), ("b", "t"))


@pytest.mark.parametrize(
    ("models", "eval_sets", "fact"),
    [
        (["a", "b", "a"], ["s"], "--model `a` is given twice; leave one out"),
        (["a"], ["s", "s"], "--eval-set `s` is given twice; leave one out"),
        (["../a"], ["s"], "would lead elsewhere"),
        (["a"], ["s\n"], "cannot be printed"),
    ],
)
def test_what_cannot_be_combined_is_refused(
    models: list[str], eval_sets: list[str], fact: str
) -> None:
    """Two jobs would run the same evals, or none could name its files."""
    with pytest.raises(UsageError, match=fact):
        combine(models, eval_sets)

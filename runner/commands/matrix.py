import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.commands.list import all_registries
from runner.errors import UsageError
from runner.files import named
from runner.model import check_names
from runner.options import DEFAULT_IMAGE, Exclude, Image, N, RegistryPaths, Select
from runner.parameters import Option, ValueKind
from runner.plan.plan import select_evals
from runner.registry.resolve import resolve_eval_set
from runner.report.text import print_warning

# What GitHub runs for one matrix; it refuses a larger one as a whole.
MOST_JOBS = 256


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How many evals one model and eval set come down to."""

    model: str
    eval_set: str
    evals: int


class MatrixJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a matrix: one shard, as `evalset run --shard I/N` takes it."""

    model: str
    eval_set: str
    shard: str


def combine(models: Sequence[str], eval_sets: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair each model with each eval set.

    Raises:
        UsageError: one of them is given twice, or can name no files.
    """
    for option, names in (("--model", models), ("--eval-set", eval_sets)):
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"{option} `{name}` is given twice", "leave one out")
    pairs = tuple((model, eval_set) for model in models for eval_set in eval_sets)
    for model, eval_set in pairs:
        check_names(model, eval_set)
    return pairs


def make_matrix(
    sizes: Sequence[Size], *, shards: int | None, per_shard: int | None
) -> tuple[list[MatrixJob], list[str]]:
    """Cut each model and eval set into shards; none of them is empty.

    Args:
        shards: the most for each; None is as many as `per_shard` asks for.
        per_shard: as many as it takes for each to have no more evals; None cuts into `shards`.

    Returns:
        The matrix's jobs, the shards of one model and eval set after each other, and a line for
        each that was not cut as asked for.

    Raises:
        UsageError: there are more shards than GitHub runs in one matrix.
    """
    entries: list[MatrixJob] = []
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
            MatrixJob(model=size.model, eval_set=size.eval_set, shard=f"{index}/{count}")
            for index in range(1, count + 1)
        ]
    if len(entries) > MOST_JOBS:
        raise UsageError(
            f"the matrix would have {len(entries)} jobs, and GitHub runs at most {MOST_JOBS}",
            "ask for fewer shards (lower --shards, higher --per-shard), or for fewer at a time",
        )
    return entries, warnings


def _parts(items: int, size: int) -> int:
    """How many parts of at most this size make up the items; or the other way round."""
    return -(-items // size)


# The file by which a step on GitHub Actions hands values to those after it.
OUTPUTS = "GITHUB_OUTPUT"


class MatrixOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one invocation of `evalset matrix` was asked for."""

    models: Annotated[
        tuple[str, ...],
        Option(
            "Run this model; give it once for each.",
            ValueKind("MODEL"),
            names=("--model",),
            configurable=False,
            required=True,
            complete="model",
        ),
    ]
    eval_sets: Annotated[
        tuple[str, ...],
        Option(
            "Run this eval set with each model; give it once for each.",
            ValueKind("EVAL_SET"),
            names=("--eval-set",),
            configurable=False,
            required=True,
            complete="eval_set",
        ),
    ]
    shards: Annotated[
        int | None,
        Option("Shards per eval set; with --per-shard, the most.", N, least=1, configurable=False),
    ] = None
    per_shard: Annotated[
        int | None,
        Option(
            "Make enough shards that none has more evals than this.", N, least=1, configurable=False
        ),
    ] = None
    select: Annotated[
        Select, "Count these evals only, as `evalset run` with the same option runs them only."
    ] = ()
    exclude: Exclude = ()
    image: Image = DEFAULT_IMAGE
    registry_paths: RegistryPaths = ()


def _sizes(options: MatrixOptions, pairs: Sequence[tuple[str, str]]) -> list[Size]:
    registry = all_registries(options.image, options.registry_paths)
    counts = {}
    for eval_set in options.eval_sets:
        resolution = resolve_eval_set(registry, eval_set)
        chosen, _ = select_evals(
            resolution.evals, resolution.names, options.select, options.exclude
        )
        counts[eval_set] = len(chosen)
    return [Size(model=model, eval_set=name, evals=counts[name]) for model, name in pairs]


@evalset_command("evalset matrix --model gpt-4 --eval-set test-basic --shards 8 --per-shard 20")
def command(options: MatrixOptions) -> None:
    """Print the JSON for `strategy.matrix` of a GitHub Actions workflow: one job per shard.

    No shard is empty. On GitHub Actions the JSON also becomes the step's output `matrix`.
    """
    if options.shards is None and options.per_shard is None:
        raise click.UsageError("give --shards, --per-shard, or both")
    sizes = _sizes(options, combine(options.models, options.eval_sets))
    entries, warnings = make_matrix(sizes, shards=options.shards, per_shard=options.per_shard)
    for warning in warnings:
        print_warning(warning)
    # In ASCII, whatever the names: nothing in it can end the line that it is.
    line = json.dumps({"include": msgspec.to_builtins(entries)}, separators=(",", ":"))
    if outputs := os.environ.get(OUTPUTS):
        path = Path(outputs)
        with named(path, "write"), path.open("a", encoding="ascii") as file:
            file.write(f"matrix={line}\n")
    print(line)

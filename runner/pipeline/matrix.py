import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from runner.pipeline.listing import all_registries
from runner.plan.matrix import Size, combine, make_matrix
from runner.plan.resolve import resolve_eval_set
from runner.plan.selection import choose
from runner.record.files import named
from runner.report.text import harmless

# The file by which a step on GitHub Actions hands values to those after it.
OUTPUTS = "GITHUB_OUTPUT"


class MatrixOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one invocation of `evalset matrix` was asked for.

    Attributes:
        models: as given to `evalset run`.
        eval_sets: as given to `evalset run`; each is run with each model.
        shards: for each model and eval set, at the most.
        per_shard: evals of a shard, at the most.
        image: whose registry counts.
        registry_paths: further registry folders.
        select: patterns of evals to run; none selects all.
        exclude: patterns of evals to leave out.
    """

    models: tuple[str, ...]
    eval_sets: tuple[str, ...]
    shards: int | None
    per_shard: int | None
    image: str
    registry_paths: tuple[str, ...]
    select: tuple[str, ...]
    exclude: tuple[str, ...]


def show_matrix(options: MatrixOptions, *, environ: Mapping[str, str], out: TextIO) -> None:
    """Print what `strategy.matrix` takes; on GitHub Actions, also set the output `matrix`."""
    pairs = combine(options.models, options.eval_sets)
    sizes = _sizes(options, pairs)
    matrix, warnings = make_matrix(sizes, shards=options.shards, per_shard=options.per_shard)
    for warning in warnings:
        print(harmless(f"warning: {warning}"), file=sys.stderr)
    # In ASCII, whatever the names: nothing in it can end the line that it is.
    line = json.dumps(msgspec.to_builtins(matrix), separators=(",", ":"))
    if outputs := environ.get(OUTPUTS):
        path = Path(outputs)
        with named(path, "write"), path.open("a", encoding="ascii") as file:
            file.write(f"matrix={line}\n")
    print(line, file=out)


def _sizes(options: MatrixOptions, pairs: Sequence[tuple[str, str]]) -> list[Size]:
    registry = all_registries(options.image, options.registry_paths)
    counts = {}
    for eval_set in options.eval_sets:
        resolution = resolve_eval_set(registry, eval_set)
        chosen, _ = choose(resolution.evals, resolution.names, options.select, options.exclude)
        counts[eval_set] = len(chosen)
    return [Size(model=model, eval_set=name, evals=counts[name]) for model, name in pairs]

import os
import sys

import click

from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import image, registry_path


@click.command(
    cls=ConfiguredCommand,
    epilog="Example: evalset matrix --model gpt-4 --eval-set test-basic --shards 8 --per-shard 20",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    shell_complete=complete_model,
    help="Run this model; give it once for each.",
)
@click.option(
    "--eval-set",
    "eval_sets",
    multiple=True,
    required=True,
    metavar="EVAL_SET",
    shell_complete=complete_eval_set,
    help="Run this eval set with each model; give it once for each.",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Shards of each eval set; with --per-shard, at the most.",
)
@click.option(
    "--per-shard",
    type=click.IntRange(min=1),
    help="As many shards as it takes for none to have more evals.",
)
@click.option(
    "--select",
    multiple=True,
    metavar="PATTERN",
    envvar="EVALSET_SELECT",
    help="Count these evals only, as `evalset run` with the same option runs them only.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    envvar="EVALSET_EXCLUDE",
    help="Leave these evals out.",
)
@image
@registry_path
def command(
    *,
    models: tuple[str, ...],
    eval_sets: tuple[str, ...],
    shards: int | None,
    per_shard: int | None,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    image: str,
    registry_path: tuple[str, ...],
) -> None:
    """Print the JSON for `strategy.matrix` of a GitHub Actions workflow: one job per shard.

    No shard is empty. On GitHub Actions the JSON also becomes the step's output `matrix`.
    """
    from runner.pipeline.matrix import MatrixOptions, show_matrix  # noqa: PLC0415 - after parsing

    if shards is None and per_shard is None:
        raise click.UsageError("give --shards, --per-shard, or both")
    options = MatrixOptions(
        models=models,
        eval_sets=eval_sets,
        shards=shards,
        per_shard=per_shard,
        image=image,
        registry_paths=registry_path,
        select=select,
        exclude=exclude,
    )
    show_matrix(options, environ=os.environ, out=sys.stdout)

import sys
from pathlib import Path

import click

from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import as_json, image, progress_dir, registry_path

KINDS = ("sets", "evals", "models", "progress")


@click.command(cls=ConfiguredCommand, epilog="Example: evalset list evals 'test-*'")
@click.argument("kind", type=click.Choice(KINDS), default="sets")
@click.argument("pattern", default="*")
@image
@registry_path
@progress_dir
@as_json
def command(
    *,
    kind: str,
    pattern: str,
    image: str,
    registry_path: tuple[str, ...],
    progress_dir: Path,
    as_json: bool,
) -> None:
    """List eval sets, evals, models, or the models and sets that have progress.

    PATTERN narrows the list; * is any text. Models are the completion functions and solvers of
    the registry; the models of an API are not listed.
    """
    from runner.pipeline import listing  # noqa: PLC0415 - after parsing

    if kind == "progress":
        listing.show_progress(progress_dir, pattern, out=sys.stdout, as_json=as_json)
    else:
        listing.show_registry(
            kind, pattern, image=image, paths=registry_path, out=sys.stdout, as_json=as_json
        )

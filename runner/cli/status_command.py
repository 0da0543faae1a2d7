import sys
from pathlib import Path

import click

from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import as_json, progress_dir


@click.command(cls=ConfiguredCommand, epilog="Example: evalset status gpt-4 test-basic")
@click.argument("model", shell_complete=complete_model)
@click.argument("eval_set", shell_complete=complete_eval_set)
@progress_dir
@as_json
def command(*, model: str, eval_set: str, progress_dir: Path, as_json: bool) -> None:
    """Show what is done, what failed and what is to do."""
    from runner.pipeline.status import show  # noqa: PLC0415 - after parsing

    show(progress_dir, model, eval_set, out=sys.stdout, as_json=as_json)

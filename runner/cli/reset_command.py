from pathlib import Path

import click

from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import progress_dir


@click.command(cls=ConfiguredCommand, epilog="Example: evalset reset gpt-4 test-basic")
@click.argument("model", shell_complete=complete_model)
@click.argument("eval_set", shell_complete=complete_eval_set)
@progress_dir
def command(*, model: str, eval_set: str, progress_dir: Path) -> None:
    """Start an eval set over: the next run runs all of it.

    Nothing is deleted: the old files get a dated name, the logs stay, and so does a progress
    branch, which a run with --snapshot goes on from.
    """
    from runner.pipeline.reset import reset  # noqa: PLC0415 - after parsing

    for path in reset(progress_dir, model, eval_set):
        click.echo(f"kept as {path}")
    click.echo(
        f"the next run of {model} {eval_set} starts over; a progress branch keeps what it has, "
        "and a run with --snapshot takes that over: name a new one with --snapshot-branch"
    )

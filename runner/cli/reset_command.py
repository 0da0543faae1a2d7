from pathlib import Path

import click

from runner.cli.cleaned import show_cleaned, show_held
from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import progress_dir


@click.command(cls=ConfiguredCommand, epilog="Example: evalset reset gpt-4 test-basic")
@click.argument("model", shell_complete=complete_model)
@click.argument("eval_set", shell_complete=complete_eval_set)
@progress_dir
def command(*, model: str, eval_set: str, progress_dir: Path) -> int:
    """Start an eval set over: the next run runs all of it.

    Nothing is deleted: the old files get a dated name, the logs stay, and so does a progress
    branch, which a run with --snapshot goes on from. What a killed run left is recorded where it
    has ended, and killed where it still runs.
    """
    from runner.pipeline.command import new_id  # noqa: PLC0415 - after parsing
    from runner.pipeline.prepare import this_host  # noqa: PLC0415 - after parsing
    from runner.pipeline.reset import reset  # noqa: PLC0415 - after parsing

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    kept, cleaned = reset(progress_dir, model, eval_set, this_host(), new_id=new_id, warn=warn)
    show_cleaned(cleaned)
    for path in kept:
        click.echo(f"kept as {path}")
    click.echo(
        f"the next run of {model} {eval_set} starts over; a progress branch keeps what it has, "
        "and a run with --snapshot takes that over: name a new one with --snapshot-branch"
    )
    show_held(cleaned)
    return 3 if cleaned.held else 0

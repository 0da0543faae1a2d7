import sys
from pathlib import Path

import click

from runner.cli.completion import complete_eval, complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import progress_dir


@click.command(cls=ConfiguredCommand, epilog="Example: evalset logs gpt-4 test-basic test-match -f")
@click.argument("model", shell_complete=complete_model)
@click.argument("eval_set", shell_complete=complete_eval_set)
@click.argument("eval_name", metavar="EVAL", shell_complete=complete_eval)
@click.option("-f", "--follow", is_flag=True, help="Go on while the eval runs.")
@progress_dir
def command(*, model: str, eval_set: str, eval_name: str, follow: bool, progress_dir: Path) -> None:
    """Print what an eval printed, in its running or else its newest attempt.

    EVAL is the eval's name as the tables show it, or its beginning up to a dot.
    """
    from runner.pipeline.logs import show  # noqa: PLC0415 - after parsing

    show(progress_dir, model, eval_set, eval_name, out=sys.stdout, follow=follow)

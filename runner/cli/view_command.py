import sys
from typing import Any

import click

from runner.cli.configuration import ConfiguredCommand
from runner.cli.report_options import report_options, report_sources


@click.command(cls=ConfiguredCommand, epilog="Example: evalset view gpt-4 test-basic --port 8000")
@report_sources
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port on loopback; 0 takes a free one.",
)
def command(*, port: int, **given: Any) -> None:  # noqa: ANN401 - click's
    """Show the report in a browser, and renew it while a run goes on.

    Only programs of this machine can reach it, with the address that it prints. Ctrl-C ends it.
    """
    from runner.pipeline.view import view  # noqa: PLC0415 - after parsing

    view(report_options(**given), port, out=sys.stdout)

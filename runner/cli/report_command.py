import sys
from pathlib import Path
from typing import Any

import click

from runner.cli.configuration import ConfiguredCommand
from runner.cli.report_options import report_options, report_sources

FORMATS = ("html", "json", "csv", "md", "junit")

# What would be left out in silence.
_WITHOUT = {"prices": ("md", "junit"), "baseline": ("junit",)}


@click.command(
    cls=ConfiguredCommand,
    epilog="Example: evalset report gpt-4 test-basic gpt-3.5-turbo test-basic",
)
@report_sources
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="html",
    show_default=True,
    help="Pages, or one file for programs.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The pages' folder, or the file.  [default: report for pages, else stdout]",
)
def command(*, kind: str, output: Path | None, **given: Any) -> None:  # noqa: ANN401 - click's
    """Write a report: pages to look at and to compare, or a file for programs.

    Without MODEL and EVAL_SET it shows all that the progress directory has. Two models of an eval
    set, or --baseline, are compared. The pages work from the disk and on any web server.
    """
    from runner.pipeline.report import write_file, write_site  # noqa: PLC0415 - after parsing

    for option, formats in _WITHOUT.items():
        if given[option] is not None and kind in formats:
            raise click.UsageError(
                f"--format {kind} shows nothing of --{option}; leave one of them out"
            )
    options = report_options(**given)
    if kind == "html":
        write_site(options, output or Path("report"), out=sys.stdout)
    else:
        write_file(options, kind, output, out=sys.stdout)

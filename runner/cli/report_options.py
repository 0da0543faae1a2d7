from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.options import Body, progress_dir, remote, snapshot_repo

if TYPE_CHECKING:
    from runner.pipeline.report import ReportOptions


def report_sources(function: Body) -> Body:
    """The arguments and options that say what a report is about."""
    for decorate in (
        remote,
        snapshot_repo,
        click.option("--branch", metavar="NAME", help="Read a progress branch, not the directory."),
        click.option(
            "--prices",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="What a million tokens of each model cost, as YAML.",
        ),
        click.option(
            "--baseline",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Compare with the same runs in this progress directory.",
        ),
        progress_dir,
        click.argument("names", metavar="[MODEL EVAL_SET]...", nargs=-1),
    ):
        function = decorate(function)
    return function


def report_options(
    *,
    names: tuple[str, ...],
    progress_dir: Path,
    baseline: Path | None,
    prices: Path | None,
    branch: str | None,
    snapshot_repo: Path | None,
    remote: str | None,
) -> "ReportOptions":
    """What a report is about, from click's parameters."""
    from runner.pipeline.options import SnapshotOptions  # noqa: PLC0415 - after parsing
    from runner.pipeline.report import ReportOptions  # noqa: PLC0415 - as above
    from runner.pipeline.report_sources import pairs_of  # noqa: PLC0415 - as above

    return ReportOptions(
        progress_dir=progress_dir,
        pairs=pairs_of(names),
        baseline=baseline,
        prices=prices,
        branch=branch,
        snapshot=SnapshotOptions(branch=branch, repo=snapshot_repo, remote=remote),
    )

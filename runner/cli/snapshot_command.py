import sys
from pathlib import Path
from typing import Any

import click

from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import Body, as_json, progress_dir, snapshot_max_file, snapshots


@click.group(epilog="Example: evalset snapshot log gpt-4 test-basic")
def command() -> None:
    """Commit, fetch, push, list or show snapshots of progress by hand."""


def _names(function: Body) -> Body:
    """The arguments and options that all of these take."""
    for decorator in (
        snapshots,
        progress_dir,
        click.argument("eval_set", shell_complete=complete_eval_set),
        click.argument("model", shell_complete=complete_model),
    ):
        function = decorator(function)
    return function


def _snapshotting(given: dict[str, Any]) -> Any:  # noqa: ANN401 - imported after parsing
    from runner.cli.snapshot_options import snapshot_options  # noqa: PLC0415 - after parsing
    from runner.pipeline.snapshot import Snapshotting  # noqa: PLC0415 - as above

    return Snapshotting(
        root=Path(given["progress_dir"]),
        model=given["model"],
        eval_set=given["eval_set"],
        options=snapshot_options(given),
        env=tuple(given.get("env", ())),
        env_file=given.get("env_file"),
        out=sys.stdout,
    )


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot take gpt-4 test-basic")
@_names
@snapshot_max_file
@click.option(
    "-e",
    "--env",
    multiple=True,
    metavar="NAME",
    envvar="EVALSET_ENV",
    help="Keep out what holds the value of this variable, as it was handed in.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    envvar="EVALSET_ENV_FILE",
    help="Keep out what holds a value of this file.",
)
def take(**given: Any) -> None:  # noqa: ANN401 - any value
    """Commit the progress directory to its branch as it is; pushes nothing."""
    _snapshotting(given).take()


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot pull gpt-4 test-basic")
@_names
def pull(**given: Any) -> None:  # noqa: ANN401 - any value
    """Fetch the branch, and merge what it has into the progress directory."""
    _snapshotting(given).pull()


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot push gpt-4 test-basic")
@_names
def push(**given: Any) -> None:  # noqa: ANN401 - any value
    """Push the branch, merged with what other hosts have pushed."""
    _snapshotting(given).push()


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot log gpt-4 test-basic")
@_names
@as_json
def log(*, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - any value
    """List the snapshots, the newest first."""
    _snapshotting(given).log(as_json=as_json)


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot show gpt-4 test-basic")
@_names
@click.argument("commit", required=False)
@as_json
def show(*, commit: str | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - any value
    """Show one snapshot, the newest if none is named."""
    _snapshotting(given).show(commit, as_json=as_json)

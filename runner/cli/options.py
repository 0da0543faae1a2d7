from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runner.cli.types import size

Body = TypeVar("Body", bound=Callable[..., Any])
Decorator = Callable[[Body], Body]


def progress_dir(function: Body) -> Body:
    """The option that says where a run's files are."""
    return click.option(
        "--progress-dir",
        type=click.Path(path_type=Path),
        default="progress",
        show_default=True,
        envvar="EVALSET_PROGRESS_DIR",
        help="Where the run's files are.",
    )(function)


def as_json(function: Body) -> Body:
    """The option for programs that read the output."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout."
    )(function)


def image(function: Body) -> Body:
    """The option that names the eval image."""
    from runner.execute.image import DEFAULT_IMAGE  # noqa: PLC0415 - docker takes its time

    return click.option(
        "--image",
        default=DEFAULT_IMAGE,
        show_default=True,
        envvar="EVALSET_IMAGE",
        help="Image that evals run in.",
    )(function)


def registry_path(function: Body) -> Body:
    """The option for further registry folders."""
    return click.option(
        "--registry-path",
        "--registry_path",
        "registry_path",
        multiple=True,
        type=click.Path(),
        envvar="EVALSET_REGISTRY_PATH",
        help="A further registry folder.",
    )(function)


def snapshots(function: Body) -> Body:
    """The options that say where snapshots go."""
    branch = click.option(
        "--snapshot-branch",
        metavar="NAME",
        envvar="EVALSET_SNAPSHOT_BRANCH",
        help="Branch of the snapshots.  [default: evalset/MODEL.EVAL_SET]",
    )
    return branch(snapshot_repo(remote(function)))


def snapshot_repo(function: Body) -> Body:
    """The option that names the repository of the snapshots."""
    return click.option(
        "--snapshot-repo",
        type=click.Path(path_type=Path),
        envvar="EVALSET_SNAPSHOT_REPO",
        help="Its repository.  [default: the one around this folder, else one of our own]",
    )(function)


def remote(function: Body) -> Body:
    """The option that names the remote of the snapshots."""
    return click.option(
        "--remote",
        metavar="NAME|URL",
        envvar="EVALSET_REMOTE",
        help="Where it is pushed to; `none` for nowhere.  [default: the repository's own]",
    )(function)


def snapshot_max_file(function: Body) -> Body:
    """The option that says which files are too large for a snapshot."""
    return click.option(
        "--snapshot-max-file",
        type=size,
        metavar="SIZE",
        default="50m",
        show_default=True,
        envvar="EVALSET_SNAPSHOT_MAX_FILE",
        help="Larger files are committed compressed, or stay here.",
    )(function)

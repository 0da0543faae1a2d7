from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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

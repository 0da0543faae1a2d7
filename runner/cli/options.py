from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def progress_dir(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option that says where a run's files are."""
    decorate: Decorator = click.option(
        "--progress-dir",
        type=click.Path(path_type=Path),
        default="progress",
        show_default=True,
        envvar="EVALSET_PROGRESS_DIR",
        help="Where the run's files are.",
    )
    return decorate(function)


def as_json(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option for programs that read the output."""
    decorate: Decorator = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout."
    )
    return decorate(function)


def image(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option that names the eval image."""
    from runner.execute.image import DEFAULT_IMAGE  # noqa: PLC0415 - docker takes its time

    decorate: Decorator = click.option(
        "--image",
        default=DEFAULT_IMAGE,
        show_default=True,
        envvar="EVALSET_IMAGE",
        help="Image that evals run in.",
    )
    return decorate(function)


def registry_path(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option for further registry folders."""
    decorate: Decorator = click.option(
        "--registry-path",
        "--registry_path",
        "registry_path",
        multiple=True,
        type=click.Path(),
        envvar="EVALSET_REGISTRY_PATH",
        help="A further registry folder.",
    )
    return decorate(function)

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runner.errors import RunnerError, UsageError
from runner.pipeline.options import Host, RunOptions
from runner.plan.commands import container_registries
from runner.record import registry_folder


def mounts_of(options: RunOptions, host: Host) -> tuple[dict[Path, str], tuple[str, ...]]:
    """The user's registry folders, each with its place in the container; later ones win.

    Returns:
        The folders, and a warning for each that is no registry, where that is no error.
    """
    folders = [Path(os.path.abspath(path)) for path in options.registry_paths]  # noqa: PTH100 - links stay as typed
    problems = tuple(filter(None, map(registry_folder.problem, folders)))
    if problems and not options.as_typed:
        raise UsageError(problems[0])
    home = host.home / ".evals"
    # the home folder inside the container
    mounts = {home: "/tmp/.evals"} if home.is_dir() else {}  # noqa: S108 - as openai/evals looks there
    places = zip(folders, container_registries(len(folders)), strict=True)
    # Upstream passes over what is not there, and no engine mounts it.
    return mounts | {folder: place for folder, place in places if folder.is_dir()}, problems


@contextmanager
def told_with_errors(warnings: Sequence[str]) -> Iterator[None]:
    """Add warnings to an error as notes: a folder that is not there may be why a set is not."""
    try:
        yield
    except RunnerError as error:
        for warning in warnings:
            error.add_note(f"warning: {warning}")
        raise


def check_apart(root: Path, mounts: Mapping[Path, str]) -> None:
    """Refuse a progress directory that evals could read: it has the results of others."""
    for folder in mounts:
        if root.is_relative_to(folder.resolve()):
            raise UsageError(
                f"the progress directory {root} lies in {folder}, which every eval can read; "
                "choose another --progress-dir, or name the registry's own folder"
            )

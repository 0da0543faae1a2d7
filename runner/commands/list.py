import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TextIO

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.engine.engine import Engine
from runner.errors import RunnerError
from runner.host import this_host
from runner.image.image import builtin_registry, find_image
from runner.options import (
    DEFAULT_IMAGE,
    PROGRESS_DIR,
    AsJson,
    Image,
    ProgressDir,
    RegistryPaths,
)
from runner.parameters import Argument, Option, ValueKind
from runner.records.layout import scan
from runner.records.state import RunState
from runner.registry.entries import (
    Registry,
    folder_problem,
    merge_registries,
    parse_registry,
    read_folder,
)
from runner.registry.resolve import names_matching, resolve_eval_set
from runner.report.text import evals, harmless


def all_registries(
    image: str, paths: Sequence[str], engine: Callable[[], Engine] = Engine
) -> Registry:
    """The image's registry, `~/.evals` and further folders, merged.

    Args:
        engine: gives the engine that has the image, once the folders have been read.
    """
    host = this_host()
    folders = [Path(path) for path in paths]
    for folder in folders:
        if problem := folder_problem(folder):
            raise problem
    if (host.home / ".evals").is_dir():
        folders.insert(0, host.home / ".evals")
    own = [parse_registry(read_folder(folder)) for folder in folders]
    there = engine()
    return merge_registries([builtin_registry(there, find_image(there.api, image), host), *own])


def show_registry(
    registry: Registry,
    kind: Literal["sets", "evals", "models"],
    pattern: str,
    *,
    eval_set: str | None,
    out: TextIO,
    as_json: bool,
) -> None:
    """Print the eval sets, evals or models of a registry; of an eval set, what a run runs."""
    found: list[dict[str, object]]
    match kind:
        case "sets":
            found = [
                _about_set(registry, name) for name in names_matching(pattern, registry.eval_sets)
            ]
        case "evals" if eval_set is not None:
            names = names_matching(pattern, resolve_eval_set(registry, eval_set).evals)
            found = [{"name": name, "alias_of": None} for name in names]
        case "evals":
            names = names_matching(pattern, registry.evals)
            found = [{"name": name, "alias_of": registry.evals[name].alias} for name in names]
        case _:
            models = ["dummy", *registry.completion_fns, *registry.solvers]
            found = [{"name": name} for name in names_matching(pattern, models)]
    _print(found, out=out, as_json=as_json)


def show_progress(root: Path, pattern: str, *, out: TextIO, as_json: bool) -> None:
    """Print the models and eval sets that have progress, and how many evals are finished."""
    found: list[dict[str, object]] = []
    for layout in scan(root):
        if names_matching(
            pattern, [f"{layout.model} {layout.eval_set}", layout.model, layout.eval_set]
        ):
            state = RunState.from_directory(layout)
            count = len(state.finished.commands) + len(state.finished.lines)
            if not count and not state.commands:
                continue  # a run was refused
            found.append({"model": layout.model, "eval_set": layout.eval_set, "finished": count})
    _print(found, out=out, as_json=as_json)


def _about_set(registry: Registry, name: str) -> dict[str, object]:
    try:
        return {"name": name, "evals": len(resolve_eval_set(registry, name).evals)}
    except RunnerError as error:
        return {"name": name, "evals": 0, "problem": str(error)}


def _print(found: Sequence[dict[str, object]], *, out: TextIO, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(found).decode(), file=out)
        return
    for about in found:
        print(harmless(_line(about)), file=out)
    if not found:
        print("nothing found", file=out)


def _line(about: dict[str, object]) -> str:
    match about:
        case {"model": model, "eval_set": eval_set, "finished": int(count)}:
            return f"{model} {eval_set}  ({evals(count)} finished)"
        case {"name": name, "problem": problem}:
            return f"{name}  ({problem})"
        case {"name": name, "evals": int(count)}:
            return f"{name}  ({evals(count)})"
        case {"name": name, "alias_of": str(alias)}:
            return f"{name} -> {alias}"
    return str(about["name"])


@evalset_command("evalset list evals 'test-*'")
def command(
    *,
    kind: Annotated[Literal["sets", "evals", "models", "progress"], Argument()] = "sets",
    pattern: Annotated[str, Argument()] = "*",
    eval_set: Annotated[
        str | None,
        Option(
            "With `evals`: only those of this eval set.",
            ValueKind("EVAL_SET"),
            names=("--set",),
            configurable=False,
            complete="eval_set",
        ),
    ] = None,
    image: Image = DEFAULT_IMAGE,
    registry_paths: RegistryPaths = (),
    progress_dir: ProgressDir = PROGRESS_DIR,
    as_json: AsJson = False,
) -> None:
    """List eval sets, evals, models, or the models and sets that have progress.

    PATTERN narrows the list; * is any text. Models are the completion functions and solvers of
    the registry; the models of an API are not listed.
    """
    if eval_set is not None and kind != "evals":
        raise click.UsageError(f"--set needs the word `evals`, not `{kind}`; or leave --set out")
    if kind == "progress":
        show_progress(progress_dir, pattern, out=sys.stdout, as_json=as_json)
    else:
        registry = all_registries(image, registry_paths)
        show_registry(registry, kind, pattern, eval_set=eval_set, out=sys.stdout, as_json=as_json)

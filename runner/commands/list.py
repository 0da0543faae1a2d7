import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
import msgspec

from runner.commands.parameters import as_json, image, progress_dir, registry_path
from runner.commands.parsing import ConfiguredCommand
from runner.engine.engine import Engine
from runner.errors import RunnerError, UsageError
from runner.host import this_host
from runner.image.image import builtin_registry, find_image
from runner.records.layout import scan
from runner.records.progress import read_progress
from runner.registry.entries import (
    Registry,
    folder_problem,
    merge_registries,
    parse_registry,
    read_folder,
)
from runner.registry.resolve import names_matching, resolve_eval_set
from runner.report.text import evals, harmless


def all_registries(image: str, paths: Sequence[str]) -> Registry:
    """The image's registry, `~/.evals` and further folders, merged."""
    host = this_host()
    folders = [Path(path) for path in paths]
    for folder in folders:
        if problem := folder_problem(folder):
            raise UsageError(problem)
    if (host.home / ".evals").is_dir():
        folders.insert(0, host.home / ".evals")
    own = [parse_registry(read_folder(folder)) for folder in folders]
    engine = Engine()
    return merge_registries([builtin_registry(engine, find_image(engine.api, image), host), *own])


def show_registry(
    kind: str, pattern: str, *, image: str, paths: Sequence[str], out: TextIO, as_json: bool
) -> None:
    """Print the eval sets, evals or models of the registries."""
    registry = all_registries(image, paths)
    found: list[dict[str, object]]
    match kind:
        case "sets":
            found = [
                _about_set(registry, name) for name in names_matching(pattern, registry.eval_sets)
            ]
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
            done = read_progress(layout.progress)
            count = len(done.commands) + len(done.lines)
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


KINDS = ("sets", "evals", "models", "progress")


@click.command(cls=ConfiguredCommand, epilog="Example: evalset list evals 'test-*'")
@click.argument("kind", type=click.Choice(KINDS), default="sets")
@click.argument("pattern", default="*")
@image
@registry_path
@progress_dir
@as_json
def command(
    *,
    kind: str,
    pattern: str,
    image: str,
    registry_path: tuple[str, ...],
    progress_dir: Path,
    as_json: bool,
) -> None:
    """List eval sets, evals, models, or the models and sets that have progress.

    PATTERN narrows the list; * is any text. Models are the completion functions and solvers of
    the registry; the models of an API are not listed.
    """
    if kind == "progress":
        show_progress(progress_dir, pattern, out=sys.stdout, as_json=as_json)
    else:
        show_registry(
            kind, pattern, image=image, paths=registry_path, out=sys.stdout, as_json=as_json
        )

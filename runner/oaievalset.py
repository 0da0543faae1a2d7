import argparse
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from click.core import ParameterSource

from runner.cli import all_read, run_program
from runner.commands.run import command as run_command_line
from runner.commands.run import options_of
from runner.errors import NobodyReads, UsageError
from runner.model import Command
from runner.options import OAIEVAL
from runner.plan.grammar import get_parser, without_dashes
from runner.records.progress import ProgressFile, read_progress, rewrite_progress
from runner.registry.entries import Registry, merge_registries, parse_registry, read_folder
from runner.registry.resolve import Resolution, resolve_eval_set

"""The drop-in for openai/evals' `oaievalset`: its command line and its Python API."""

__all__ = ["OaiEvalSetArguments", "Progress", "get_parser", "main", "run"]

# Where upstream keeps its files.
PROGRESS_DIR = Path("/tmp")  # noqa: S108 - upstream's place


class OaiEvalSetArguments(argparse.Namespace):
    """What `get_parser` finds on the command line.

    Attributes:
        model: as given to `oaieval`.
        eval_set: name of the eval set.
        registry_path: further registry folders; None when there are none.
        resume: whether to skip what is finished.
        exit_on_error: whether to stop at the first failure.
    """

    model: str
    eval_set: str
    registry_path: list[str] | None
    resume: bool
    exit_on_error: bool


class Progress:
    """Upstream's class of this name, on a file that a crash does not damage.

    Attributes:
        file: path of the progress file.
        completed: finished commands, each an argv.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.completed: list[list[str]] = []

    def load(self) -> bool:
        """Read the file, and tell whether it has a finished command."""
        found = read_progress(self.file)
        self.completed += [list(command) for command in found.commands]
        self.completed += [line.split(" ") for line in found.lines]
        return bool(self.completed)

    def add(self, item: list[str]) -> None:
        """Append a finished command; durable when this returns."""
        self.completed.append(item)
        with ProgressFile(self.file) as file:
            file.add_commands(Command(item))

    def save(self) -> None:
        """Rewrite the whole file."""
        rewrite_progress(self.file, [Command(item) for item in self.completed])


def run(
    args: OaiEvalSetArguments,
    unknown_args: list[str],
    registry: Any | None = None,  # noqa: ANN401 - ours or upstream's
    run_command: str = OAIEVAL,
) -> None:
    """Run an eval set as upstream's function of this name does, each eval in its container.

    Args:
        args: what `get_parser` found.
        unknown_args: passed through to every command.
        registry: `runner.registry.entries.Registry`, or an object with upstream's `get_eval_set`
            and `get_evals`; None is the image's registry and the folders of `args`.
        run_command: the program that runs one eval.

    Raises:
        subprocess.CalledProcessError: an eval failed, and `args.exit_on_error` is set.
        runner.errors.RunnerError: the run could not start or continue.
    """
    try:
        code = _run(args, unknown_args, _resolution(args, registry), run_command)
    except NobodyReads as error:
        all_read()  # so that Python does not try again to write it at its end
        code = error.exit_code
    if code and (args.exit_on_error or code != 1):
        raise subprocess.CalledProcessError(code, [run_command, args.model, args.eval_set])


def main(argv: Sequence[str] | None = None) -> None:
    """The program `oaievalset`: upstream's grammar exactly.

    The options that upstream does not have come from the environment (EVALSET_JOBS and so on) and
    from `evalset.toml` or `[tool.evalset]`.
    """
    parser = get_parser()
    parser.prog = "oaievalset"
    line = sys.argv[1:] if argv is None else argv
    args, unknown = parser.parse_known_args(line, OaiEvalSetArguments())
    run_program(lambda: _run(args, without_dashes(line, unknown), None, None))


def _run(
    args: OaiEvalSetArguments,
    unknown: Sequence[str],
    resolution: Resolution | None,
    run_command: str | None,
) -> int:
    from runner.commands.run import run_eval_set  # noqa: PLC0415 - takes its time

    # Upstream's options are told to click in full, so that no variable or file changes them.
    line = ["--resume" if args.resume else "--no-resume"]
    line.append("--exit-on-error" if args.exit_on_error else "--no-exit-on-error")
    for path in args.registry_path or ():
        line += ["--registry-path", path]
    context = run_command_line.make_context("oaievalset", [*line, "--", args.model, args.eval_set])
    defaults = {"jobs": 1, "progress_dir": PROGRESS_DIR, "run_command": run_command or OAIEVAL}
    changes = {
        name: value
        for name, value in defaults.items()
        if context.get_parameter_source(name) is ParameterSource.DEFAULT
    }
    # Upstream continues whatever has changed; here a warning says what has.
    options = msgspec.structs.replace(
        options_of(context),
        as_typed=True,
        repin=True,
        passed_through=tuple(unknown),
        all_or_none=False,
        **changes,
    )
    ours = list(run_command_line.our_options())
    out = sys.stdout or io.StringIO()  # there is none where it was closed, as `>&-` does
    return run_eval_set(options, out=out, ours=ours, resolution=resolution)


def _resolution(args: OaiEvalSetArguments, registry: Any | None) -> Resolution | None:  # noqa: ANN401 - any value
    """The evals of a registry that the caller brought."""
    if registry is None:
        return None
    paths = args.registry_path or []
    if isinstance(registry, Registry):
        folders = [parse_registry(read_folder(Path(path))) for path in paths]
        return resolve_eval_set(merge_registries([registry, *folders]), args.eval_set)
    if paths and hasattr(registry, "add_registry_paths"):
        registry.add_registry_paths(paths)
    eval_set = registry.get_eval_set(args.eval_set)
    if eval_set is None:
        raise UsageError(
            f"no eval set `{args.eval_set}` in the registry that was given", "check both"
        )
    keys = [found.key for found in registry.get_evals(eval_set.evals) if found and found.key]
    unique = tuple(dict.fromkeys(keys))
    return Resolution(evals=unique, names={key: (key,) for key in unique})

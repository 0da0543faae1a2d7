"""Runs under upstream's Python, and answers by upstream's own code what the tests ask as JSON.

Each line of stdin is a question: `[name of a function below, argument]`. Each line of stdout is the
answer.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import evals.registry  # type: ignore[import-not-found]
from evals.cli import oaievalset  # type: ignore[import-not-found]


def sorted_directory(self: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 - upstream's class
    """Read a folder's files in sorted order: upstream takes them as the file system has them."""
    for file in sorted(Path(path).glob("*.yaml")):
        yield from self._load_file(file)


evals.registry.Registry._load_directory = sorted_directory
BUILTIN = evals.registry.Registry([Path(evals.registry.__file__).parent / "registry"])


def folder(_: None) -> str:
    """Where the built-in registry is."""
    return str(BUILTIN._registry_paths[0])


def eval_sets(_: None) -> list[str]:
    """The names of every built-in eval set."""
    return list(BUILTIN._eval_sets)


def parse(argv: list[str]) -> dict[str, Any]:
    """What upstream's parser makes of a command line."""
    parser = oaievalset.get_parser()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            args, unknown = parser.parse_known_args(argv)
        except SystemExit as ended:
            return {"exit": ended.code}
    return {"args": vars(args), "unknown": unknown}


def commands(argv: list[str]) -> list[list[str]]:
    """The commands that upstream runs for a command line, in order, with none on record."""
    args, unknown = oaievalset.get_parser().parse_known_args(argv)
    registry = BUILTIN
    if args.registry_path:
        # `run` adds the path to the registry that it is given
        registry = evals.registry.Registry(list(BUILTIN._registry_paths))
    ran: list[list[str]] = []
    with (
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(subprocess, "run", lambda command, **_: ran.append(command)),
        mock.patch.object(oaievalset.Progress, "load", return_value=False),
        mock.patch.object(oaievalset.Progress, "save"),
    ):
        oaievalset.run(argparse.Namespace(**vars(args)), unknown, registry=registry)
    return ran


ANSWERS = {each.__name__: each for each in (folder, eval_sets, parse, commands)}

if __name__ == "__main__":
    for line in sys.stdin:
        name, argument = json.loads(line)
        print(json.dumps(ANSWERS[name](argument)))

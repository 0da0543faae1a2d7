import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TextIO

from runner.commands.command_line import evalset_command
from runner.errors import UsageError, did_you_mean
from runner.model import Attempt
from runner.options import PROGRESS_DIR, EvalSet, Model, ProgressDir
from runner.parameters import Argument, Option
from runner.records.layout import Layout
from runner.records.progress import read_attempts
from runner.report.text import harmless_parts, on_actions


def show(root: Path, model: str, eval_set: str, name: str, *, out: TextIO, follow: bool) -> None:
    """Print the console log of an eval's running attempt, or else of its newest one."""
    from runner.engine.engine import Engine, as_environment_fault
    from runner.engine.leftovers import containers_of
    from runner.engine.live import console_of

    layout = Layout.named(root, model, eval_set)
    records = read_attempts(layout.attempts).records
    running = containers_of(layout)
    known = {record.eval for record in records} | {left.command.eval for left in running}
    keys = [key for key in sorted(known) if key == name or key.startswith(f"{name}.")]
    if not keys:
        hint = did_you_mean(name, known) or "`evalset status` lists the evals"
        raise UsageError(f"no attempt of `{name}` for {model} {eval_set}", hint)
    if len(keys) > 1 and name not in keys:
        raise UsageError(f"`{name}` could be any of {', '.join(keys)}", "name one in full")
    key = name if name in keys else keys[0]
    for left in running:
        if left.command.eval == key and left.running:
            with as_environment_fault():
                _print(console_of(Engine(), left.container, follow=follow), out)
            return
    _print_kept(layout, [record for record in records if record.eval == key], out)


def _print_kept(layout: Layout, records: list[Attempt], out: TextIO) -> None:
    kept = [record.console_log for record in records if record.console_log]
    if not kept:
        raise UsageError(
            f"no attempt of `{records[-1].eval}` has left a console log",
            "`evalset status` says how they ended",
        )
    paths = layout.log_paths(kept[-1:])
    if not paths:
        raise UsageError(
            f"the console log {layout.root / kept[-1]} is not there any more",
            "move it back to read it",
        )
    with paths[0].open("rb") as file:
        _print(iter(lambda: file.read(65536), b""), out)


def _print(parts: Iterable[bytes], out: TextIO) -> None:
    """To a terminal and to GitHub only what cannot harm it; elsewhere what the eval wrote."""
    if out.isatty() or on_actions():
        for text in harmless_parts(parts):
            out.write(text)
            out.flush()
        return
    for part in parts:
        out.buffer.write(part)
        out.flush()


@evalset_command("evalset logs gpt-4 test-basic test-match -f")
def command(
    *,
    model: Model,
    eval_set: EvalSet,
    eval_name: Annotated[str, Argument("eval", metavar="EVAL")],
    follow: Annotated[
        bool,
        Option(
            "Follow the output while the eval runs.", names=("-f", "--follow"), configurable=False
        ),
    ] = False,
    progress_dir: ProgressDir = PROGRESS_DIR,
) -> None:
    """Print what an eval printed, in its running or else its newest attempt.

    EVAL is the eval's name as the tables show it, or its beginning up to a dot.
    """
    show(progress_dir, model, eval_set, eval_name, out=sys.stdout, follow=follow)

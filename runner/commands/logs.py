import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click

from runner.commands.parameters import progress_dir
from runner.commands.parsing import (
    ConfiguredCommand,
    complete_eval,
    complete_eval_set,
    complete_model,
)
from runner.engine.engine import Engine, as_environment_fault
from runner.engine.leftovers import Leftover, find_leftovers
from runner.engine.live import console_of
from runner.errors import EnvironmentFault, UsageError, did_you_mean
from runner.host import this_host
from runner.model import Attempt, check_names
from runner.records.attempts import read_attempts
from runner.records.layout import Layout
from runner.records.logs import below
from runner.report.text import Shown, on_actions


def show(root: Path, model: str, eval_set: str, name: str, *, out: TextIO, follow: bool) -> None:
    """Print the console log of an eval's running attempt, or else of its newest one."""
    check_names(model, eval_set)
    layout = Layout(root=root.resolve(), model=model, eval_set=eval_set)
    records = read_attempts(layout.attempts).records
    running = _running(layout)
    known = {record.eval for record in records} | {left.command.eval for left in running}
    keys = [key for key in sorted(known) if key == name or key.startswith(f"{name}.")]
    if not keys:
        hint = did_you_mean(name, known) or "; `evalset status` lists the evals"
        raise UsageError(f"no attempt of `{name}` for {model} {eval_set}{hint}")
    if len(keys) > 1 and name not in keys:
        raise UsageError(f"`{name}` could be any of {', '.join(keys)}; name one in full")
    key = name if name in keys else keys[0]
    for left in running:
        if left.command.eval == key and left.running:
            with as_environment_fault():
                _print(console_of(Engine(), left.container, follow=follow), out)
            return
    _print_kept(layout, [record for record in records if record.eval == key], out)


def _running(layout: Layout) -> list[Leftover]:
    try:
        engine = Engine()
        with as_environment_fault():
            return find_leftovers(engine.api, layout, this_host().name)
    except EnvironmentFault:
        return []  # without an engine nothing runs, and the kept logs can be read


def _print_kept(layout: Layout, records: list[Attempt], out: TextIO) -> None:
    kept = [record.console_log for record in records if record.console_log]
    if not kept:
        raise UsageError(
            f"no attempt of `{records[-1].eval}` has left a console log; "
            "`evalset status` says how they ended"
        )
    path = below(layout, kept[-1])
    if path is None or not path.is_file():
        raise UsageError(
            f"the console log {layout.root / kept[-1]} is not there any more; "
            "move it back to read it"
        )
    with path.open("rb") as file:
        _print(iter(lambda: file.read(65536), b""), out)


def _print(parts: Iterable[bytes], out: TextIO) -> None:
    """To a terminal and to GitHub only what cannot harm it; elsewhere what the eval wrote."""
    shown = Shown(out) if out.isatty() or on_actions() else None
    for part in parts:
        if shown is not None:
            shown.write(part)
        else:
            out.buffer.write(part)
            out.flush()
    if shown is not None:
        shown.end()


@click.command(cls=ConfiguredCommand, epilog="Example: evalset logs gpt-4 test-basic test-match -f")
@click.argument("model", shell_complete=complete_model)
@click.argument("eval_set", shell_complete=complete_eval_set)
@click.argument("eval_name", metavar="EVAL", shell_complete=complete_eval)
@click.option("-f", "--follow", is_flag=True, help="Go on while the eval runs.")
@progress_dir
def command(*, model: str, eval_set: str, eval_name: str, follow: bool, progress_dir: Path) -> None:
    """Print what an eval printed, in its running or else its newest attempt.

    EVAL is the eval's name as the tables show it, or its beginning up to a dot.
    """
    show(progress_dir, model, eval_set, eval_name, out=sys.stdout, follow=follow)

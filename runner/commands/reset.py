from collections.abc import Callable
from pathlib import Path

import click

from runner.commands.clean import Cleaned, clean_one, show_cleaned, show_held
from runner.commands.command_line import evalset_command
from runner.engine.engine import Engine
from runner.errors import EnvironmentFault
from runner.host import Host, new_id, this_host
from runner.options import PROGRESS_DIR, EvalSet, Model, ProgressDir
from runner.records.layout import Layout, keep_dated
from runner.records.lock import run_lock


def reset(
    root: Path,
    model: str,
    eval_set: str,
    host: Host,
    *,
    new_id: Callable[[], str],
    warn: Callable[[str], None],
) -> tuple[list[Path], Cleaned]:
    """Set a model and eval set's files aside, unless a live run writes them.

    What a killed run left is cleaned up first; otherwise the next run would continue it.

    Returns:
        The files' new paths, and what was cleaned up.
    """
    layout = Layout.named(root, model, eval_set)
    if not any(path.exists() for path in layout.kept):
        raise layout.no_progress()
    cleaned = Cleaned()
    with run_lock(layout.lock):
        try:
            clean_one(Engine(), layout, host, cleaned, run=new_id())
        except EnvironmentFault:
            warn(
                "no Docker engine answers; the next run continues what a killed run left there, "
                "unless `evalset clean` removes it first"
            )
        return keep_dated(layout.kept), cleaned


@evalset_command("evalset reset gpt-4 test-basic")
def command(*, model: Model, eval_set: EvalSet, progress_dir: ProgressDir = PROGRESS_DIR) -> int:
    """Start an eval set over: the next run runs all of it.

    Nothing is deleted: the old files get a dated name, the logs stay, and so does a progress
    branch, which a run with --snapshot resumes from. What a killed run left is recorded where it
    has ended, and killed where it still runs.
    """

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    kept, cleaned = reset(progress_dir, model, eval_set, this_host(), new_id=new_id, warn=warn)
    show_cleaned(cleaned)
    for path in kept:
        click.echo(f"kept as {path}")
    click.echo(
        f"the next run of {model} {eval_set} starts over; a progress branch keeps what it has, "
        "and a run with --snapshot takes that over: name a new one with --snapshot-branch"
    )
    show_held(cleaned)
    return 3 if cleaned.held else 0

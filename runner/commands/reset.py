from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

import click
import msgspec

from runner.commands.clean import Cleaned, clean_hosts, clean_one, show_cleaned, show_held
from runner.commands.command_line import evalset_command
from runner.errors import EnvironmentFault
from runner.files import read_bytes, replace
from runner.host import Host, new_id, this_host
from runner.model import Attempt, Command, Result
from runner.options import PROGRESS_DIR, EvalSet, Model, ProgressDir
from runner.parameters import Option
from runner.plan.pins import VERSION, RunFile
from runner.records.layout import Layout, dated_path, keep_dated, stamp
from runner.records.progress import move_attempts
from runner.records.run_file import next_generation, write_run_file
from runner.records.run_lock import run_lock
from runner.records.state import RunState
from runner.report.text import print_warning


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
    from runner.engine.engine import Engine

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
        # What a host that cannot be reached still has is refused by the next run.
        clean_hosts(layout, cleaned, run=new_id(), forget=True)
        return keep_dated(layout.kept), cleaned


def take_out_failed(root: Path, model: str, eval_set: str) -> list[Path]:
    """Take the attempts that failed or were lost, of evals that have not finished, off the record.

    The newest plan goes as well if none of it is finished and some of it failed: its arguments
    were a mistake, as a rule. What its pins say of finished evals stays. Containers are left alone.

    Returns:
        The files that hold what was taken out; none if there was nothing.
    """
    layout = Layout.named(root, model, eval_set)
    if not any(path.exists() for path in layout.kept):
        raise layout.no_progress()
    with run_lock(layout.lock):
        state = RunState.from_directory(layout)
        done = set(state.done())

        def goes(attempt: Attempt) -> bool:
            return attempt.result is not Result.SUCCESS and not _is_among(done, attempt.command)

        when = stamp()
        kept = []
        run = state.run
        planned = set(map(Command, run.commands)) if run else set()
        failed = any(goes(attempt) and attempt.command in planned for attempt in state.attempts)
        # First, because the attempts are the reason to do it.
        if run and failed and not any(_is_among(done, command) for command in planned):
            kept += _take_out_plan(layout, run, dated_path(layout.run, when))
        target = dated_path(layout.attempts, when)
        if move_attempts(layout.attempts, target, goes):
            kept.append(target)
        return kept


def _is_among(done: Collection[Command | str], command: Command) -> bool:
    return command in done or " ".join(command) in done


def _take_out_plan(layout: Layout, run: RunFile, target: Path) -> list[Path]:
    if run.version > VERSION:
        return []  # a newer evalset's is not for us to change
    replace(target, read_bytes(layout.run), writer="run")
    generation = next_generation(layout, run)
    write_run_file(
        layout,
        msgspec.structs.replace(run, commands=(), in_eval_set=None, generation=generation),
    )
    return [target]


def _about_branches(root: Path, model: str, eval_set: str) -> str:
    """What is said of branches that have the same, to be put after a sentence."""
    from runner.branch.progress_branch import branches_of

    names = branches_of(Layout.named(root, model, eval_set), this_host())
    if not names:
        return ""
    verb = "branch {} keeps" if len(names) == 1 else "branches {} keep"
    return (
        f"; the {verb.format(', '.join(names))} what is there, and a run with --snapshot takes "
        "that over: name a new one with --snapshot-branch"
    )


@evalset_command("evalset reset gpt-4 test-basic")
def command(
    *,
    model: Model,
    eval_set: EvalSet,
    progress_dir: ProgressDir = PROGRESS_DIR,
    failed: Annotated[
        bool,
        Option("Only remove failed and lost attempts from the record.", configurable=False),
    ] = False,
) -> int:
    """Start an eval set over: the next run runs all of it.

    Nothing is deleted: the old files get a dated name, the logs stay, and so does a progress
    branch, which a run with --snapshot resumes from. What a killed run left is recorded if it
    has ended, and killed if it still runs.

    With --failed, finished evals stay finished. Failed and lost attempts of the others move to a
    file with a date, for example those of a run whose arguments were mistyped. If nothing of the
    last plan is finished, `evalset status` no longer shows it; otherwise its evals are to do.
    Containers of a killed run are left alone: `evalset clean` before this records them.
    """
    if failed:
        kept = take_out_failed(progress_dir, model, eval_set)
        _show_kept(kept)
        said = "nothing to remove: no failed eval is on record"
        if kept:
            about = _about_branches(progress_dir, model, eval_set)
            said = f"failed attempts are removed from the record{about}"
        click.echo(said)
        return 0
    kept, cleaned = reset(
        progress_dir, model, eval_set, this_host(), new_id=new_id, warn=print_warning
    )
    show_cleaned(cleaned)
    _show_kept(kept)
    about = _about_branches(progress_dir, model, eval_set)
    click.echo(f"the next run of {model} {eval_set} starts over{about}")
    show_held(cleaned)
    return 3 if cleaned.held else 0


def _show_kept(kept: Sequence[Path]) -> None:
    for path in kept:
        click.echo(f"kept as {path}")

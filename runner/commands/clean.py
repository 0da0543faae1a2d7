from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.errors import LockHeld
from runner.gateway.client import end_process, remove_abandoned
from runner.host import Host, new_id, this_host
from runner.options import PROGRESS_DIR, AsJson, ProgressDir
from runner.records.layout import Layout

if TYPE_CHECKING:
    from runner.engine.engine import Engine


class Cleaned(msgspec.Struct, kw_only=True):
    """What `evalset clean` has done up to now.

    Attributes:
        recorded: evals that had ended, and whose outcome is on record now.
        killed: evals that were still running.
        removed: containers in all.
        held: messages on what a live run holds, and on what cannot be removed.
    """

    recorded: list[str] = []
    killed: list[str] = []
    removed: int = 0
    held: list[str] = []


def clean(root: Path, host: Host, *, new_id: Callable[[], str]) -> Cleaned:
    """Remove the containers that killed runs of this host left in a progress directory.

    The outcome of one that ended is recorded first. What a live run holds is left alone.
    """
    from runner.engine.engine import Engine, as_environment_fault
    from runner.engine.image_probe import remove_leftover_probes
    from runner.engine.leftovers import leftovers_below
    from runner.records.folders import remove_orphans
    from runner.records.lock import is_held, run_lock

    root = root.resolve()
    engine = Engine()
    cleaned = Cleaned()
    with as_environment_fault():
        found = {one.layout for one in leftovers_below(engine.api, root, host.name)}
    for layout in sorted(found, key=lambda it: (it.model, it.eval_set)):
        try:
            with run_lock(layout.lock):
                clean_one(engine, layout, host, cleaned, run=new_id())
        except LockHeld as error:
            cleaned.held.append(str(error))
    with as_environment_fault():
        # A live run may have its containers on another engine or host.
        if not any(is_held(path) for path in (root / "oaievalset").rglob("*.lock")):
            held = leftovers_below(engine.api, root, host.name)
            remove_orphans(root, {one.attempt for one in held})
            remove_abandoned(root)
        remove_leftover_probes(engine.api)
    return cleaned


def clean_one(engine: "Engine", layout: Layout, host: Host, cleaned: Cleaned, *, run: str) -> None:
    """Do it for one model and eval set, whose lock the caller has, and add what was done.

    Raises:
        EnvironmentFault: the engine does not answer.
    """
    from runner.engine.engine import as_environment_fault
    from runner.engine.leftovers import discard, find_leftovers
    from runner.run.record import Recorder, record_ended

    end_process(layout.gateway)
    with as_environment_fault():
        leftovers = find_leftovers(engine.api, layout, host.name)
        if not leftovers:
            return
        with Recorder(layout, run=run) as recorder:
            for one in leftovers:
                if not recorder.complete(one.attempt) and not one.running:
                    record_ended(engine, layout, host, recorder, one)
                    cleaned.recorded.append(one.command.eval)
                elif not discard(engine.api, one):
                    cleaned.held.append(
                        f"the container {one.container[:12]} of {one.command.eval} cannot be "
                        "killed; restart the engine or the host, then run this again"
                    )
                    continue
                elif one.running:
                    cleaned.killed.append(one.command.eval)
                cleaned.removed += 1


def show_cleaned(cleaned: Cleaned) -> None:
    """Print a line for each eval that was recorded or killed."""
    for name in cleaned.recorded:
        click.echo(f"recorded {name}, which had ended")
    for name in cleaned.killed:
        click.echo(f"killed {name}, which was running")


def show_held(cleaned: Cleaned) -> None:
    """Print what was left alone."""
    for line in cleaned.held:
        click.echo(f"left alone: {line}", err=True)


@evalset_command("evalset clean --progress-dir progress")
def command(*, progress_dir: ProgressDir = PROGRESS_DIR, as_json: AsJson = False) -> int:
    """Remove the containers that killed runs left; record those that had finished.

    Only containers of this progress directory are touched, and none that a live run holds. An
    eval that still runs is killed: to let it finish, use `evalset run` instead, which takes it
    over.
    """
    cleaned = clean(progress_dir, this_host(), new_id=new_id)
    if as_json:
        click.echo(msgspec.json.encode(cleaned).decode())
    else:
        show_cleaned(cleaned)
        click.echo(f"containers removed: {cleaned.removed}")
    show_held(cleaned)
    return 3 if cleaned.held else 0

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.errors import EnvironmentFault, LockHeld
from runner.gateway.client import end_process, remove_abandoned
from runner.host import Host, new_id, this_host
from runner.options import PROGRESS_DIR, AsJson, ProgressDir
from runner.parameters import Option, ValueKind
from runner.records.layout import Layout, scan
from runner.report.text import plain_line

if TYPE_CHECKING:
    from runner.engine.engine import Engine
    from runner.hosts.ssh import HostName


class Cleaned(msgspec.Struct, kw_only=True):
    """What `evalset clean` has done up to now.

    Attributes:
        recorded: evals that had ended, and whose outcome is on record now.
        killed: evals that were still running.
        removed: containers in all.
        held: messages on what a live run holds, and on what cannot be removed.
        hosts: those of --hosts where nothing of ours is left.
    """

    recorded: list[str] = []
    killed: list[str] = []
    removed: int = 0
    held: list[str] = []
    hosts: list[str] = []


def clean(
    root: Path, host: Host, *, new_id: Callable[[], str], hosts: "Sequence[HostName]" = ()
) -> Cleaned:
    """Remove what killed runs of this host left in a progress directory, here and on hosts.

    The outcome of what ended is recorded first. What a live run holds is left alone.

    Args:
        hosts: from which all that is ours is removed.

    Raises:
        EnvironmentFault: no engine answers here, and no run has used hosts.
    """
    root = root.resolve()
    cleaned = Cleaned()
    with_hosts = [layout for layout in scan(root) if layout.hosts.exists()]
    try:
        _clean_here(root, host, cleaned, new_id=new_id)
    except EnvironmentFault as error:
        if not with_hosts and not hosts:
            raise
        cleaned.held.append(str(error))
    if with_hosts or hosts:
        _clean_there(with_hosts, hosts, cleaned, new_id=new_id)
    return cleaned


def _clean_there(
    layouts: Sequence[Layout],
    hosts: "Sequence[HostName]",
    cleaned: Cleaned,
    *,
    new_id: Callable[[], str],
) -> None:
    """Do it on the hosts of runs, and remove all that is ours from `hosts`."""
    from runner.hosts.ledger import read_ledger
    from runner.records.run_lock import run_lock

    mine: set[str] = set()
    live: set[str] = set()
    told: set[str] = set()
    for layout in layouts:
        id_, before = read_ledger(layout).id, len(cleaned.held)
        try:
            with run_lock(layout.lock):
                end_process(layout.gateway)
                clean_hosts(layout, cleaned, run=new_id())
        except LockHeld as error:
            live.add(id_)
            if str(error) not in cleaned.held:
                cleaned.held.append(str(error))
        else:  # what could not be recorded stays
            (mine if len(cleaned.held) == before else told).add(id_)
    _sweep(hosts, cleaned, mine, live, told)


def clean_hosts(layout: Layout, cleaned: Cleaned, *, run: str, forget: bool = False) -> None:
    """Do it on the hosts of one model and eval set, whose lock the caller has.

    Args:
        forget: whether attempts on hosts that cannot be reached are not to be recorded later.
    """
    from runner.run.host_leftovers import take_in

    taken = take_in(layout, run=run, forget=forget)
    cleaned.recorded += taken.recorded
    cleaned.killed += taken.killed
    cleaned.removed += taken.removed
    cleaned.held += taken.problems


def _sweep(
    hosts: "Sequence[HostName]",
    cleaned: Cleaned,
    mine: Iterable[str],
    live: Iterable[str],
    told: Iterable[str],
) -> None:
    """Remove all that is ours from hosts; why those of `told` stay was said before."""
    from runner.hosts.leftovers import AT_ONCE, sweep_host
    from runner.hosts.ssh import LOCAL

    with ThreadPoolExecutor(AT_ONCE) as pool:
        others = [host.name for host in hosts if host.name != LOCAL]
        for name, future in [(it, pool.submit(sweep_host, it, mine, live)) for it in others]:
            try:
                kept = future.result()
            except EnvironmentFault as error:
                cleaned.held.append(str(error))
                continue
            for id_ in set(kept).difference(told):
                who = "this" if id_ in live else "another"
                cleaned.held.append(
                    f"{name} is used by {who} progress directory ({id_}); "
                    "wait for its run, or clean it from there"
                )
            if not kept:
                cleaned.hosts.append(name)


def _clean_here(root: Path, host: Host, cleaned: Cleaned, *, new_id: Callable[[], str]) -> None:
    from runner.engine.engine import Engine, as_environment_fault
    from runner.engine.image_probe import remove_leftover_probes
    from runner.engine.leftovers import leftovers_below
    from runner.records.folders import remove_orphans
    from runner.records.run_lock import is_held, run_lock

    engine = Engine()
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


def clean_one(engine: "Engine", layout: Layout, host: Host, cleaned: Cleaned, *, run: str) -> None:
    """Do it for one model and eval set, whose lock the caller has, and add what was done.

    Raises:
        EnvironmentFault: the engine does not answer.
    """
    from runner.engine.engine import as_environment_fault
    from runner.engine.leftovers import discard, find_leftovers
    from runner.run.on_this_host import record_ended
    from runner.run.record import Recorder

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
        click.echo(plain_line(f"left alone: {line}"), err=True)  # it may be what a host says


@evalset_command("evalset clean --progress-dir progress")
def command(
    *,
    progress_dir: ProgressDir = PROGRESS_DIR,
    hosts: Annotated[
        tuple[str, ...],
        Option(
            "Remove everything of evalset's from these hosts: agents, sent images, code, data.",
            ValueKind("HOST,..."),
            names=("--hosts",),
            configurable=False,
        ),
    ] = (),
    as_json: AsJson = False,
) -> int:
    """Remove the containers that killed runs left; record those that had ended.

    Only containers of this progress directory are touched, here and on the hosts of its runs, and
    none that a live run holds. An eval that still runs is killed: to let it finish, use
    `evalset run` instead, which takes it over.
    """
    names: Sequence[HostName] = ()
    if hosts:
        from runner.hosts.ssh import parse_hosts

        names = parse_hosts(hosts)
    cleaned = clean(progress_dir, this_host(), new_id=new_id, hosts=names)
    if as_json:
        click.echo(msgspec.json.encode(cleaned).decode())
    else:
        show_cleaned(cleaned)
        click.echo(f"containers removed: {cleaned.removed}")
        for name in cleaned.hosts:
            click.echo(f"nothing of evalset is left on {name}")
    show_held(cleaned)
    return 3 if cleaned.held else 0

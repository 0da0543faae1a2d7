import sys
from pathlib import Path
from typing import Annotated

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.commands.group import Group
from runner.data.cache import DataCache, remove
from runner.data.lock import DataLock
from runner.engine.engine import Engine
from runner.host import this_host
from runner.options import (
    DEFAULT_IMAGE,
    EVAL_NETWORK,
    PROGRESS_DIR,
    TIMEOUT,
    AsJson,
    Env,
    EnvFile,
    EvalSet,
    Exclude,
    Image,
    Jobs,
    Model,
    Network,
    OwnFiles,
    ProgressDir,
    RunOptions,
    Select,
    Timeout,
)
from runner.parameters import Argument, Option
from runner.registry.resolve import names_matching
from runner.report.text import evals, json_line, plain_line, print_warning, size


@click.group(cls=Group, epilog="Example: evalset data fetch gpt-4 mmmu")
def command() -> None:
    """Fetch what evals load from a hub or an address, and see what is there."""


class FetchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that one invocation of `evalset data fetch` was asked for."""

    model: Model
    eval_set: EvalSet
    passed_through: Annotated[tuple[str, ...], Argument(metavar="[ARGS]...")] = ()
    select: Annotated[Select, "Fetch for these evals only; * is any text."] = ()
    exclude: Exclude = ()
    refresh: Annotated[
        bool, Option("Fetch again what is there, whatever is pinned.", configurable=False)
    ] = False
    own: OwnFiles = OwnFiles()
    image: Image = DEFAULT_IMAGE
    network: Annotated[Network, "Docker network that leads to the data."] = EVAL_NETWORK
    env: Annotated[
        Env, "Pass in this variable of the host, by name, such as HF_TOKEN; no other is."
    ] = ()
    env_file: EnvFile = None
    jobs: Jobs = None
    timeout: Timeout = TIMEOUT
    progress_dir: ProgressDir = PROGRESS_DIR

    @property
    def run(self) -> RunOptions:
        """A run that loads the same data."""
        given = msgspec.structs.asdict(self)
        own = given.pop("own")
        del given["refresh"]
        return RunOptions(
            **given, **msgspec.structs.asdict(own), explicit=frozenset({"network", "timeout"})
        )


@evalset_command("evalset data fetch gpt-4 mmmu", group=command)
def fetch(options: FetchOptions) -> int:
    """Fetch what the evals of EVAL_SET load from a hub or an address, once.

    Each eval is started without its model, and whatever it loads is kept in the user's cache and
    locked. Runs give it to the eval, which then asks no hub. What the run of MODEL in the
    progress directory is pinned to is fetched at that revision. Exits with 1 if data are missing.
    """
    from runner.report.bars import FetchDisplay
    from runner.run.fetch import fetch as fetch_data

    display = FetchDisplay(sys.stdout)
    try:
        found = fetch_data(options.run, this_host(), display, refresh=options.refresh)
    finally:
        display.end()
    with_data = [each.lock for each in found if each.lock and each.lock.files]
    failed = sum(each.lock is None for each in found)
    total = size(sum(lock.size for lock in with_data))
    line = f"{evals(len(with_data))} of {len(found)} with data, {total} in {_cache().root}"
    print(plain_line(f"{line}; {failed} failed" if failed else line))
    return 1 if failed else 0


def _cache() -> DataCache:
    return DataCache(this_host().cache)


@evalset_command("evalset data list --json", group=command)
def list(*, as_json: AsJson = False) -> None:  # noqa: A001 - the command's name
    """Show what was fetched: for which eval, how much, and which revision."""
    found = tuple(_cache().all())
    if as_json:
        print(json_line([{"folder": str(folder), "lock": lock} for folder, lock in found]))
        return
    for folder, lock in found:
        if lock is None:
            print(plain_line(f"not whole  {folder.name}"))
        elif lock.files:
            print(plain_line(f"{lock.eval}  {size(lock.size)}  {lock.sha256[:12]}{lock.commits}"))
    whole = [lock for _, lock in found if lock is not None]
    none = sum(not lock.files for lock in whole)
    print(plain_line(f"{evals(len(whole) - none)} with data in {_cache().root}, {none} need none"))


@evalset_command("evalset data clean --select 'lambada*'", group=command)
def clean(
    *,
    select: Annotated[Select, "Remove the data of these evals only; * is any text."] = (),
) -> None:
    """Remove fetched data, and what interrupted fetches left."""
    from runner.run.fetch import alone, require_unused

    api = Engine().api
    cache = _cache()
    freed = 0
    removed = 0
    if cache.root.is_dir():
        with alone(cache):
            for folder, lock in cache.all():
                if _is_selected(folder, lock, select):
                    freed += lock.size if lock else 0
                    removed += 1
                    require_unused(api, folder)
                    remove(folder)
    print(plain_line(f"removed the data of {evals(removed)}, {size(freed)}"))
    if select and not removed:
        print_warning(f"no data in {cache.root} are of {', '.join(select)}")


def _is_selected(folder: Path, lock: DataLock | None, select: tuple[str, ...]) -> bool:
    name = lock.eval if lock else folder.name.removeprefix(".fetching-").rpartition(".")[0]
    return not select or any(names_matching(pattern, [name]) for pattern in select)

import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import msgspec

from runner.commands.command_line import evalset_command, typed
from runner.commands.list import all_registries
from runner.engine import docker_py
from runner.engine.engine import Engine
from runner.errors import EnvironmentFault, RunnerError
from runner.gateway.providers import access_for
from runner.host import KEYLESS_MODEL, this_host, variables_for_containers
from runner.image.image import Image as EvalImage
from runner.image.image import find_image, own_fingerprint
from runner.options import (
    DEFAULT_IMAGE,
    EVAL_NETWORK,
    MIN_FREE_DISK,
    NAME,
    PROGRESS_DIR,
    SETTINGS,
    AsJson,
    Env,
    Hosts,
    Image,
    MinFreeDisk,
    Network,
    OwnFiles,
    ProgressDir,
    RunOptions,
    Upstreams,
)
from runner.parameters import Option
from runner.records.state import RunState
from runner.report.text import evals, plain_line, size

if TYPE_CHECKING:
    from runner.hosts.equip import EquippedHost as There
    from runner.hosts.ssh import HostName

# Below this a run of any size fills the disk.
LEAST_FREE = 2 * 2**30

# Hosts that are looked at at the same time.
HOSTS_AT_ONCE = 16

# The first with `git fetch --no-write-fetch-head`.
LEAST_GIT = (2, 29)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a run needs, and what was found of it.

    Attributes:
        cure: what to do; empty if nothing is.
        lines: what was found of each eval, to be shown below all checks.
    """

    name: str
    ok: bool
    found: str
    cure: str = ""
    lines: tuple[str, ...] = ()


def _check(name: str, look: Callable[[], Check | str]) -> Check:
    try:
        found = look()
    except RunnerError as error:
        return Check(name=name, ok=False, found=error.what, cure=error.cure)
    return found if isinstance(found, Check) else Check(name=name, ok=True, found=found)


def _said_once(engine: Check, *others: Check) -> list[Check]:
    """All checks, without those that only met the missing engine again."""
    return [engine, *(each for each in others if each.ok or each.found != engine.found)]


def _engine_for(hosts: "Sequence[HostName]") -> Callable[[], Engine]:
    """What gives the engine that images are looked up in, as in a run, or says why none is."""
    try:
        engine = Engine()
    except EnvironmentFault as error:
        fault = error
    else:
        return lambda: engine
    if hosts:
        from runner.hosts.remote_engine import borrow

        with suppress(EnvironmentFault):  # why hosts cannot be used, they say themselves
            borrowed = borrow(hosts)
            return lambda: borrowed

    def fail() -> Engine:
        raise fault

    return fail


def _about(engine: Engine) -> str:
    if engine.lender:
        return f"none here; images are looked up at {engine.lender}"
    info = engine.info()
    memory = info.memory / 2**30
    rootless = ", rootless" if info.rootless else ""
    return f"{info.version} at {docker_py.address()}, {info.cpus} CPUs, {memory:.1f} GiB{rootless}"


def _hosts(
    names: "Sequence[HostName]", engine: Callable[[], Engine], image: str, least: int
) -> list[Check]:
    """Look at hosts of a run, several at once; `least` bytes have to be free on a host's disk."""
    from runner.hosts.check import check
    from runner.hosts.equip import EquippedHost as There
    from runner.hosts.ssh import LOCAL

    def look(host: "HostName") -> str:
        if host.name == LOCAL:
            own = Engine()
            return f"{_about(own)}; {_at_once(host, own.info().cpus)}"
        facts = check(host.name, least=least)
        rootless = ", rootless" if facts.rootless else ""
        found = f"Docker {facts.engine}, {facts.cpus} CPUs, {size(facts.free)} free{rootless}"
        found += f"; {_at_once(host, facts.cpus)}"
        try:
            wanted = find_image(engine().api, image)
        except EnvironmentFault:  # which is told already
            return found
        there = There(name=host.name, id="", facts=facts)
        return f"{found}; {_image_there(there, engine(), wanted)}"

    with ThreadPoolExecutor(HOSTS_AT_ONCE) as pool:
        return list(pool.map(lambda host: _check(f"host {host.name}", lambda: look(host)), names))


def _at_once(host: "HostName", cpus: int) -> str:
    return f"runs {evals(host.slots or cpus)} at once"


def _image_there(host: "There", engine: Engine, image: EvalImage) -> str:
    """Whether a host has an image, or how it would get it."""
    from runner.hosts.equip import has_image

    if has_image(host, engine, image):
        return f"has {image.name}"
    if image.digest:
        return f"would pull {image.name}"
    about: dict[str, Any] = engine.api.inspect_image(image.id)  # type: ignore[no-untyped-call] # its stubs lack it
    return f"would get {image.name} from {engine.lender or 'here'} ({size(about['Size'])})"


def _image(engine: Engine, name: str) -> str:
    api = engine.api
    image = find_image(api, name)
    return f"{image.name} ({(own_fingerprint(api, image) or image.id)[:19]})"


def _registry(engine: Callable[[], Engine], image: str, paths: Sequence[str]) -> str:
    registry = all_registries(image, paths, engine)
    return f"{len(registry.eval_sets)} eval sets, {len(registry.evals)} evals"


def _progress_dir(path: Path) -> str:
    place = _existing(path)
    if not place.is_dir():
        raise EnvironmentFault(f"{place} is no folder", "choose another --progress-dir")
    if not os.access(place, os.W_OK | os.X_OK):
        so = "" if place == path.resolve() else f", so {path.resolve()} cannot be made"
        raise EnvironmentFault(f"{place} is not writable{so}", "choose another --progress-dir")
    return f"{path.resolve()} {'is writable' if place == path.resolve() else 'can be made'}"


def _disk(path: Path) -> str:
    free = shutil.disk_usage(_existing(path)).free
    if free < LEAST_FREE:
        raise EnvironmentFault(
            f"{free / 2**30:.1f} GiB free where the progress directory is",
            "free some space, or choose another --progress-dir",
        )
    return f"{free / 2**30:.1f} GiB free where the progress directory is"


def _git() -> str:
    from runner.branch.git import run_git

    if shutil.which("git") is None:
        raise EnvironmentFault("not installed", "install Git, which progress snapshots need")
    said = run_git(["--version"], folder=Path()).decode().strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < LEAST_GIT:
        least = ".".join(map(str, LEAST_GIT))
        raise EnvironmentFault(said, f"progress snapshots need {least} or later: install that")
    return said


def _providers(options: RunOptions) -> Check | str:
    environ = this_host().environ
    given = variables_for_containers(environ, names=options.env, env_file=None, model=options.model)
    access = access_for(given, named=options.env, upstreams=options.upstreams, environ=environ)
    if access.routes:
        shown = ", ".join(
            f"{route.name} at {route.public_address}" for route in access.routes.values()
        )
        return f"{shown}; the gateway of a run asks them, and no container gets a key"
    return Check(
        name="providers",
        ok=True,
        found="no key or address of one is set",
        cure="only models that ask no provider run, such as `dummy`; export OPENAI_API_KEY, or "
        "the variables of another provider",
    )


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _evals(options: RunOptions) -> Check:
    """Whether the evals of a set can run, with a table of those that cannot."""
    lines: list[str] = []
    check = _check("evals", lambda: _looked_at(options, lines))
    return msgspec.structs.replace(check, lines=tuple(lines))


def _looked_at(options: RunOptions, lines: list[str]) -> Check | str:
    from runner.report.display import obstacle_lines
    from runner.run.containers import with_locks
    from runner.run.prepare import planned, prepare
    from runner.run.unable import find_obstacles

    host = this_host()
    prepared = prepare(options, host)
    plan = planned(prepared, RunState(model="", eval_set=""))
    prepared = with_locks(prepared, plan, None, host, tell=lines.append)
    fitted = find_obstacles(prepared, plan, host, makes=False, tell=lines.append)
    plan = planned(fitted, RunState(model="", eval_set=""))
    lines += [f"warning: {each}" for each in fitted.warnings]
    lines += obstacle_lines(fitted.obstacles)
    if plan.unable:
        return Check(
            name="evals",
            ok=False,
            found=f"{len(plan.unable)} of {evals(len(plan.jobs))} cannot run",
            cure="the table below says why; `evalset run` skips them",
        )
    return f"nothing keeps {evals(len(plan.jobs))} from running"


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """The run whose evals are looked at, if an eval set is given."""

    network: Annotated[Network, "Docker network of an eval, for --eval-set."] = EVAL_NETWORK
    env: Env = ()
    upstreams: Upstreams = ()
    eval_set: Annotated[
        str | None,
        Option("Look for evals of this set that cannot run.", NAME, configurable=False),
    ] = None
    model: Annotated[str, Option("With this model, for --eval-set.", NAME, configurable=False)] = (
        KEYLESS_MODEL
    )


@evalset_command("evalset doctor --eval-set test-basic")
def command(
    *,
    image: Image = DEFAULT_IMAGE,
    own: OwnFiles,
    hosts: Annotated[Hosts, "Check these Docker hosts, too, reached by ssh."] = (),
    min_free_disk: Annotated[
        MinFreeDisk, "Treat a host with less than this free on its disk as unusable."
    ] = MIN_FREE_DISK,
    tried: Tried,
    progress_dir: ProgressDir = PROGRESS_DIR,
    as_json: AsJson = False,
) -> int:
    """Check engine, image, registry, disk, Git, hosts; say what to do, exit 3 if one fails."""
    names: Sequence[HostName] = ()
    if hosts:
        from runner.hosts.ssh import parse_hosts

        names = parse_hosts(hosts)
    options = RunOptions(
        image=image,
        **msgspec.structs.asdict(own),
        **{**msgspec.structs.asdict(tried), "eval_set": tried.eval_set or ""},
        progress_dir=progress_dir,
        hosts=tuple(hosts),
        explicit=typed(click.get_current_context(), SETTINGS),
    )
    engine = _engine_for(names)
    checks = _said_once(
        _check("Docker engine", lambda: _about(engine())),
        _check("eval image", lambda: _image(engine(), image)),
        _check("registry", lambda: _registry(engine, image, own.registry_paths)),
        _check("progress directory", lambda: _progress_dir(progress_dir)),
        _check("disk", lambda: _disk(progress_dir)),
        _check("Git", _git),
        _check("providers", lambda: _providers(options)),
        *(_hosts(names, engine, image, min_free_disk) if names else ()),
        *([_evals(options)] if tried.eval_set else ()),
    )
    if as_json:
        click.echo(msgspec.json.encode(checks).decode())
    else:
        for check in checks:
            mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
            click.echo(f"{mark} {plain_line(f'{check.name}: {check.found}')}")
            if check.cure:
                click.echo(f"     {plain_line(check.cure)}")
        for line in (line for check in checks for line in check.lines):
            click.echo(plain_line(line))
    return 0 if all(check.ok for check in checks) else 3

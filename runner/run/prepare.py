import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runner.engine.engine import Engine
from runner.errors import RunnerError, UsageError
from runner.gateway.limits import Limits, limits_of_run
from runner.gateway.prices import check_budget
from runner.gateway.providers import Access, Route, access_for, route_of
from runner.host import KEYLESS_MODEL, Host, from_host, handed_in, read_env_file
from runner.image.image import BASE, Image, builtin_registry, find_image, look_up_image
from runner.model import ContainerSettings, check_names, container_registries
from runner.options import DEFAULT_IMAGE, RunOptions, extra_image
from runner.plan.grammar import check_passed_through
from runner.plan.plan import Plan, Shard, make_plan, parse_shard
from runner.records.layout import Layout
from runner.records.state import RunState, StateReader
from runner.registry.entries import (
    RegistryFile,
    folder_problem,
    merge_registries,
    parse_registry,
    read_folder,
)
from runner.registry.needs import by_image
from runner.registry.resolve import Resolution, resolve_eval_set
from runner.registry.rules import ContainerRule, parse_rules, settings_for

# openai/evals' own program.
OAIEVAL = "oaieval"

# Addresses of proxies, which often hold a login.
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A run that could start: everything asked for exists and was understood.

    Attributes:
        image: that evals get by default.
        shard: the part of the evals to run; None is all.
        environment: variables to hand in, by name.
        hidden: those that stay outside, with the gateway.
        limits: of what its requests to models may cost, and how many there are in a minute.
        routes: providers that the gateway leads to; empty where containers reach them themselves.
        offline: whether the gateway only replays answers on record.
        mounts: container path by host folder.
        own: the files of the user's registry folders, by the folder's place in the container.
    """

    options: RunOptions
    layout: Layout
    engine: Engine
    image: Image
    resolution: Resolution
    shard: Shard | None
    rules: tuple[ContainerRule, ...]
    environment: dict[str, str]
    hidden: dict[str, str]
    routes: dict[str, Route]
    limits: Limits
    mounts: dict[Path, str]
    own: dict[str, tuple[RegistryFile, ...]]
    warnings: tuple[str, ...]
    offline: bool = False

    def settings_for(self, key: str) -> ContainerSettings:
        """What the container of an eval gets; variables are named, and have no values here.

        Without a network no proxy can be reached, so that none is handed in.
        """
        options = self.options
        defaults = msgspec.structs.replace(options.settings, env=tuple(sorted(self.environment)))
        found = settings_for(key, defaults=defaults, rules=self.rules, explicit=options.explicit)
        if found.network != "none":
            return found
        env = tuple(name for name in found.env if name.lower() not in PROXIES)
        return msgspec.structs.replace(found, env=env)


def prepare(
    options: RunOptions,
    host: Host,
    *,
    ours: Sequence[str] = (),
    resolution: Resolution | None = None,
) -> Prepared:
    """Find all that a run needs, and refuse what cannot be.

    Args:
        ours: spellings of our own options, to notice one that was mistyped and passed through.
        resolution: the evals, where the caller has a registry of its own.
    """
    check_names(options.model, options.eval_set)
    _check_text(options)
    shard = parse_shard(options.shard) if options.shard else None
    environment = handed_in(
        host.environ, names=options.env, env_file=options.env_file, model=options.model
    )
    access = _access(options, environment, host)
    limits = limits_of_run(options)
    warnings = check_passed_through(options.passed_through, handed_in=environment, ours=ours)
    folders = [Path(os.path.abspath(path)) for path in options.registry_paths]  # noqa: PTH100 - links stay as typed
    folder_warnings = _folder_warnings(folders, options)
    mounts = _mounts(folders, host)
    root = options.progress_dir.resolve()
    _check_apart(root, mounts)
    own = {place: tuple(read_folder(folder)) for folder, place in mounts.items()}
    engine = Engine()
    engine.ask_ahead()
    image = find_image(engine.api, options.settings.image)
    if resolution is None:
        with _noting(folder_warnings):  # such a folder may be why a set is not there
            registries = [builtin_registry(engine, image, host), *map(parse_registry, own.values())]
            resolution = resolve_eval_set(
                merge_registries(registries),
                options.eval_set,
                model=options.model,
                passed_through=options.passed_through,
            )
    rules = parse_rules([f for files in own.values() for f in files if f.kind == "containers"])
    extras, extra_warnings = _extras(engine, image, options, resolution.evals)
    if _is_asked_by_name(options.model, resolution, access):
        check_budget(limits.budget, limits.prices, model=options.model)
    return Prepared(
        options=options,
        layout=Layout(root=root, model=options.model, eval_set=options.eval_set),
        engine=engine,
        image=image,
        resolution=resolution,
        shard=shard,
        # those of the user come last, and win
        rules=(*extras, *rules),
        environment=access.inside,
        hidden=access.hidden,
        routes=access.routes,
        limits=limits,
        mounts=mounts,
        own=own,
        warnings=(
            *warnings,
            *folder_warnings,
            *resolution.warnings,
            *extra_warnings,
            *_environment_warnings(options, environment, access),
        ),
    )


def _extras(
    engine: Engine, image: Image, options: RunOptions, evals: Sequence[str]
) -> tuple[list[ContainerRule], list[str]]:
    """Rules that give evals the image with what they need, and how to build one that is not here.

    Whoever chooses an image gets it for every eval.
    """
    rules: list[ContainerRule] = []
    warnings: list[str] = []
    if options.settings.image != DEFAULT_IMAGE or "image" in options.explicit:
        return rules, warnings
    for extra, names in by_image(evals).items():
        name = extra_image(extra)
        built = look_up_image(engine.api, name)
        if built is None:
            warnings.append(
                f"{len(names)} of the evals, such as {names[0]}, need the image {name}, which is "
                "not here, and fail without it; build it with "
                f"`evalset image build --extra {extra}`"
            )
            continue
        if built.labels.get(BASE) != image.fingerprint:
            warnings.append(
                f"the image {name} is not built on the {image.name} that is here; "
                f"`evalset image build --extra {extra}` builds it anew"
            )
        rules += (ContainerRule(pattern=it, settings={"image": name}, env=()) for it in names)
    return rules, warnings


def _check_text(options: RunOptions) -> None:
    typed = (options.run_command, *options.passed_through, *options.registry_paths)
    for text in (*typed, str(options.progress_dir)):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {text!a} is not UTF-8", "give it in UTF-8") from None


def _folder_warnings(folders: Sequence[Path], options: RunOptions) -> tuple[str, ...]:
    """What is wrong with registry folders; the drop-in passes over them, as upstream does."""
    problems = [problem for folder in folders if (problem := folder_problem(folder))]
    if problems and not options.as_typed:
        raise problems[0]
    return tuple(map(str, problems))


@contextmanager
def _noting(warnings: Sequence[str]) -> Iterator[None]:
    """Let an error say these, too."""
    try:
        yield
    except RunnerError as error:
        for warning in warnings:
            error.add_note(f"warning: {warning}")
        raise


def _mounts(folders: Sequence[Path], host: Host) -> dict[Path, str]:
    """The user's registry folders, each with its place in the container; later ones win."""
    home = host.home / ".evals"
    # the home folder inside the container
    mounts = {home: "/tmp/.evals"} if home.is_dir() else {}  # noqa: S108 - as openai/evals looks there
    places = zip(folders, container_registries(len(folders)), strict=True)
    # Upstream passes over what is not there, and no engine mounts it.
    return mounts | {folder: place for folder, place in places if folder.is_dir()}


def _check_apart(root: Path, mounts: Mapping[Path, str]) -> None:
    """Refuse a progress directory that evals could read: it has the results of others."""
    for folder in mounts:
        if root.is_relative_to(folder.resolve()):
            raise UsageError(
                f"the progress directory {root} lies in {folder}, which every eval can read",
                "choose another --progress-dir, or name the registry's own folder",
            )


def _access(options: RunOptions, environment: dict[str, str], host: Host) -> Access:
    """Decide which variables evals get, and which stay with the gateway."""
    if not options.gateway:
        return Access(inside=environment)
    named = set(options.env)
    if options.env_file:
        named |= read_env_file(options.env_file, host.environ).keys()
    return access_for(environment, named=named, upstreams=options.upstreams, environ=host.environ)


def _is_asked_by_name(model: str, resolution: Resolution, access: Access) -> bool:
    """Whether requests name the model as the user does: what a registry defines asks for others."""
    if model == KEYLESS_MODEL or resolution.defines_model:
        return False
    return route_of(model, access.routes) is not None


def _environment_warnings(
    options: RunOptions, environment: Mapping[str, str], access: Access
) -> Iterator[str]:
    address = environment.get("OPENAI_BASE_URL", "")
    is_local = any(f"//{name}" in address for name in ("localhost", "127.0.0.1", "[::1]"))
    if is_local and options.settings.network != "host" and not access.routes:
        yield (
            "OPENAI_BASE_URL points at localhost, which inside a container is the container "
            "itself; leave --no-gateway out, use http://host.docker.internal:PORT, or --network "
            "host"
        )
    if options.run_command != OAIEVAL:
        return
    if not environment.get("OPENAI_API_KEY") and not access.routes:
        yield "OPENAI_API_KEY is not set, and oaieval asks for it when it starts; export it"
    if access.left_out:
        yield (
            f"evals do not get {', '.join(access.left_out)}, because the gateway knows no "
            "provider for it; --env NAME hands one in, --upstream NAME=URL leads to its provider"
        )


def state_of(prepared: Prepared, reader: StateReader | None = None) -> RunState:
    """What is on disk of the runs before this one; nothing where it starts over."""
    if prepared.options.resume:
        return RunState.from_directory(prepared.layout, reader)
    return RunState(model=prepared.layout.model, eval_set=prepared.layout.eval_set)


def planned(prepared: Prepared, state: RunState) -> Plan:
    """Split the evals into done and to do by what is on record."""
    return make_plan(
        prepared.options,
        evals=prepared.resolution.evals,
        names=prepared.resolution.names,
        settings=prepared.settings_for,
        done=state.done(),
        past=state.past(),
        shard=prepared.shard,
    )


def environment_for(plan: Plan, prepared: Prepared, host: Host) -> dict[str, str]:
    """Values of every variable that a job of the plan names, those of rules included."""
    named = {name for job in plan.todo for name in job.settings.env}
    missing = named - prepared.environment.keys()
    for name in missing - host.environ.keys():
        raise UsageError(
            f"the variable {name}, which a file in containers/ names, is not set", "export it"
        )
    return prepared.environment | {name: from_host(host.environ, name) for name in missing}


def kept_out(prepared: Prepared, host: Host) -> dict[str, str]:
    """Values that no snapshot may hold: of variables that an eval gets, or got when it ran.

    A finished eval may have printed what a rule handed in, also one that was not selected now.
    """
    named = {name for rule in prepared.rules for name in rule.env}
    known = prepared.environment | prepared.hidden
    return known | {name: host.environ[name] for name in named & host.environ.keys() - known}

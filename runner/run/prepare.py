import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import msgspec

from runner.data.cache import Data, DataCache, fetched_for
from runner.engine.engine import Engine
from runner.errors import RunnerError, UsageError
from runner.gateway.allowance import Limits, limits_of_run
from runner.gateway.prices import check_budget
from runner.gateway.providers import Access, Route, access_for, is_answered, route_of
from runner.host import (
    KEYLESS_MODEL,
    Host,
    from_host,
    read_env_file,
    variables_for_containers,
    with_placeholder,
)
from runner.image.image import (
    BASE,
    Image,
    builtin_registry,
    find_image,
    look_up_image,
    modules_in,
)
from runner.image.requirements import Lock
from runner.model import ContainerSettings, check_names
from runner.options import DEFAULT_IMAGE, OAIEVAL, RunOptions, extra_image
from runner.plan.grammar import check_passed_through
from runner.plan.obstacles import Obstacle
from runner.plan.plan import Plan, Shard, make_plan, parse_shard
from runner.records.layout import Layout
from runner.records.state import RunState, StateReader
from runner.registry.code import check_code, shadowing
from runner.registry.entries import (
    Registry,
    RegistryFile,
    merge_registries,
    parse_registry,
)
from runner.registry.needs import by_image
from runner.registry.resolve import Resolution, resolve_eval_set
from runner.registry.rules import ContainerRule, settings_for
from runner.run.inputs import Folders, absolute, local_addresses, provider_warnings

# Addresses of proxies, which often hold a login.
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A run that could start: everything asked for exists and was understood.

    Attributes:
        image: that evals get by default.
        shard: the part of the evals to run; None is all.
        environment: variables to pass in, by name.
        hidden: variables that the gateway gets and evals do not.
        limits: what its requests to models may cost, and how many there may be in a minute.
        routes: providers that are reached through the gateway; empty if containers reach them
            directly.
        offline: whether the gateway only replays answers that are on record.
        mounts: container path by host folder.
        own: the files of the user's registry folders, by the folder's place in the container.
        obstacles: why evals cannot run, by key, once `find_obstacles` has looked.
        classes: registry folder that defines the models that are classes; None for none.
        model_is_code: whether the model is the user's own code, which may not need a provider.
        locks: packages that requirements add to images, by `ContainerSettings.packages`.
        data: the data that were fetched, by the eval that loads them.
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
    obstacles: dict[str, Obstacle] = {}
    offline: bool = False
    classes: Path | None = None
    model_is_code: bool = False
    locks: dict[tuple[str, str | None], Lock] = {}
    data: dict[str, Data] = {}

    @property
    def models_without_provider(self) -> list[str]:
        """Models that evals ask by their names, and that no provider answers for."""
        options = self.options
        needs_none = self.model_is_code or self.resolution.defines_model or options.as_typed
        through_gateway = options.gateway and options.run_command == OAIEVAL
        if needs_none or self.offline or not through_gateway:
            return []
        named = {*options.model.split(",")} - {KEYLESS_MODEL}
        return sorted(model for model in named if not is_answered(model, self.routes))

    def settings_for(self, key: str) -> ContainerSettings:
        """The settings of an eval's container; they have the names of variables, not their values.

        Variables of proxies are left out if there is no network to reach one.
        """
        options = self.options
        defaults = msgspec.structs.replace(
            options.settings,
            env=tuple(sorted(self.environment)),
            code=absolute(options.code),
            requirements=options.requirements and os.path.abspath(options.requirements),  # noqa: PTH100 - links stay as typed
        )
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
    with_data: bool = True,
) -> Prepared:
    """Find everything that a run needs, and refuse what cannot work.

    Args:
        ours: spellings of evalset's options, to notice one that was mistyped and passed through.
        resolution: the evals, if the caller has a registry of its own.
        with_data: whether to look for fetched data.
    """
    asked = _asked(options, host, ours)
    folders, access = asked.folders, asked.access
    engine = _engine(options)
    engine.ask_ahead()
    image = find_image(engine.api, options.settings.image)
    if resolution is None:
        # A folder with a warning, or a forgotten one, may be why there is no such set.
        with with_warnings(chain(folders.warnings, _forgotten(asked.layout, options))):
            resolution = _resolution(options, folders, builtin_registry(engine, image, host))
    if (classes := folders.classes(host)) is not None:
        resolution = msgspec.structs.replace(resolution, defines_model=True)
    extras, outdated = _extras(engine, image, options, resolution.evals)
    if _is_asked_by_name(options.model, resolution, access):
        check_budget(asked.limits.budget, asked.limits.prices, model=options.model)
    data = DataCache(host.cache)
    prepared = Prepared(
        options=options,
        layout=asked.layout,
        engine=engine,
        image=image,
        resolution=resolution,
        shard=asked.shard,
        # the user's come last, so that they win
        rules=(*extras, *folders.rules),
        environment=access.inside,
        hidden=access.hidden,
        routes=access.routes,
        limits=asked.limits,
        mounts=folders.mounts,
        own=folders.own,
        data=fetched_for(data, resolution.evals, folders.own, options.passed_through)
        if with_data
        else {},
        warnings=(*asked.warnings, *resolution.warnings, *outdated),
        classes=classes,
        model_is_code=folders.model_is_code,
    )
    warnings = (*prepared.warnings, *_warnings(prepared, asked, host))
    return msgspec.structs.replace(prepared, warnings=warnings)


def _engine(options: RunOptions) -> Engine:
    """The engine that images are looked up in."""
    if not options.hosts:
        return Engine()
    from runner.hosts.remote_engine import engine_for  # noqa: PLC0415 - with --hosts alone

    return engine_for(options.hosts)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run before the engine is asked for anything."""

    layout: Layout
    shard: Shard | None
    folders: Folders
    environment: dict[str, str]
    access: Access
    limits: Limits
    warnings: tuple[str, ...]


def _asked(options: RunOptions, host: Host, ours: Sequence[str]) -> _Asked:
    """Read what the options name, and refuse what cannot work."""
    check_names(options.model, options.eval_set)
    _check_text(options)
    shard = parse_shard(options.shard) if options.shard else None
    environment = variables_for_containers(
        host.environ, names=options.env, env_file=options.env_file, model=options.model
    )
    limits = limits_of_run(options)
    warnings = check_passed_through(options.passed_through, variables=environment, ours=ours)
    layout = Layout(
        root=options.progress_dir.resolve(), model=options.model, eval_set=options.eval_set
    )
    folders = Folders.of(options, host, layout)
    if folders.model_is_code:
        environment = with_placeholder(environment)
    access = _access(options, environment, host)
    if options.hosts:
        from runner.hosts.ssh import check_hosts  # noqa: PLC0415 - with --hosts alone

        check_hosts(options.hosts, {} if access.routes else access.inside)
    return _Asked(
        layout=layout,
        shard=shard,
        folders=folders,
        environment=environment,
        access=access,
        limits=limits,
        warnings=(*warnings, *folders.warnings),
    )


def _resolution(options: RunOptions, folders: Folders, builtin: Registry) -> Resolution:
    """The evals of the set, from the image's registry and the user's."""
    own = [parse_registry(files) for files in folders.own.values()]
    folders.check_not_copied(builtin, own)
    return resolve_eval_set(
        merge_registries([builtin, *own]),
        options.eval_set,
        model=options.model,
        passed_through=options.passed_through,
    )


def _forgotten(layout: Layout, options: RunOptions) -> Iterator[str]:
    """A warning if the last run of the same set had more registry folders."""
    last = RunState.from_directory(layout).run
    commands = last.commands if last else ()
    had = max((each.count("--registry_path") for each in commands), default=0)
    has = len(options.registry_paths)
    if had > has:
        yield f"the last run of it had {had} --registry-path, and this one has {has or 'none'}"


def _extras(
    engine: Engine, image: Image, options: RunOptions, evals: Sequence[str]
) -> tuple[list[ContainerRule], list[str]]:
    """Rules that give evals the extra image that they need, and warnings about outdated images.

    If the user has chosen an image, every eval gets that one.
    """
    rules: list[ContainerRule] = []
    warnings: list[str] = []
    if options.settings.image != DEFAULT_IMAGE or "image" in options.explicit:
        return rules, warnings
    for extra, names in by_image(evals).items():
        name = extra_image(extra)
        built = look_up_image(engine.api, name)
        if built is None:  # `find_obstacles` says so before anything starts
            continue
        if built.labels.get(BASE) != image.fingerprint:
            warnings.append(
                f"the image {name} is not built on the {image.name} that is here; "
                f"`evalset image build --extra {extra}` builds it again"
            )
        rules += (ContainerRule(pattern=it, settings={"image": name}, env=()) for it in names)
    return rules, warnings


def _warnings(prepared: Prepared, asked: _Asked, host: Host) -> Iterator[str]:
    """What may go wrong in containers; folders of code that do not go together are refused."""
    options, image = prepared.options, prepared.image
    if options.run_command == OAIEVAL:
        yield from provider_warnings(options, asked.environment, asked.access)
    if code := asked.folders.code:
        yield from shadowing(code, modules_in(prepared.engine, image, host))
    settings = [prepared.settings_for(name) for name in prepared.resolution.evals]
    for together in {each.code for each in settings}:
        check_code([Path(folder) for folder in together])
    values = {**host.environ, **prepared.environment}
    yield from local_addresses(settings, values, gateway=options.gateway)


def _check_text(options: RunOptions) -> None:
    typed = (options.run_command, *options.passed_through, *options.registry_paths)
    for text in (*typed, str(options.progress_dir)):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {text!a} is not UTF-8", "give it in UTF-8") from None


@contextmanager
def with_warnings(warnings: Iterable[str]) -> Iterator[None]:
    """Add these warnings to an error, but those that say to do the same."""
    try:
        yield
    except RunnerError as error:
        for warning in warnings:
            if not (error.cure and warning.endswith(error.cure)):
                error.add_note(f"warning: {warning}")
        raise


def _access(options: RunOptions, environment: dict[str, str], host: Host) -> Access:
    """Decide which variables evals get, and which only the gateway."""
    if not options.gateway:
        return Access(inside=environment)
    named = set(options.env)
    if options.env_file:
        named |= read_env_file(options.env_file, host.environ).keys()
    return access_for(environment, named=named, upstreams=options.upstreams, environ=host.environ)


def _is_asked_by_name(model: str, resolution: Resolution, access: Access) -> bool:
    """Whether requests name the model as the user does; an entry of a registry may ask others."""
    if model == KEYLESS_MODEL or resolution.defines_model:
        return False
    return route_of(model, access.routes) is not None


def state_of(prepared: Prepared, reader: StateReader | None = None) -> RunState:
    """What earlier runs have recorded; nothing if this run starts over."""
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
        obstacles={name: found.why for name, found in prepared.obstacles.items()},
    )


def environment_for(plan: Plan, prepared: Prepared, host: Host) -> dict[str, str]:
    """The value of every variable that a job of the plan names, including those of rules."""
    named = {name for job in plan.todo for name in job.settings.env}
    missing = named - prepared.environment.keys()
    for name in missing - host.environ.keys():
        raise UsageError(
            f"the variable {name}, which a file in containers/ names, is not set", "export it"
        )
    return prepared.environment | {name: from_host(host.environ, name) for name in missing}


def secret_variables(prepared: Prepared, host: Host) -> dict[str, str]:
    """Values that no snapshot may hold: of variables that an eval gets, or got when it ran.

    A finished eval may have printed a value from a rule, even if it is not selected now.
    """
    named = {name for rule in prepared.rules for name in rule.env}
    known = prepared.environment | prepared.hidden
    return known | {name: host.environ[name] for name in named & host.environ.keys() - known}

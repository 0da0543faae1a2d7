import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runner.engine.engine import Engine
from runner.errors import RunnerError, UsageError
from runner.host import Host, from_host, handed_in
from runner.image.image import Image, builtin_registry, find_image
from runner.model import ContainerSettings, check_names, container_registries
from runner.options import RunOptions
from runner.plan.grammar import check_passed_through
from runner.plan.plan import Plan, make_plan
from runner.plan.selection import Shard, parse_shard
from runner.records.layout import Layout
from runner.records.state import RunState, StateReader
from runner.registry.entries import (
    Registry,
    RegistryFile,
    folder_problem,
    merge_registries,
    parse_registry,
    read_folder,
)
from runner.registry.resolve import Resolution, resolve_eval_set
from runner.registry.rules import ContainerRule, parse_rules, settings_for


def mounts_of(options: RunOptions, host: Host) -> tuple[dict[Path, str], tuple[str, ...]]:
    """The user's registry folders, each with its place in the container; later ones win.

    Returns:
        The folders, and a warning for each that is no registry, where that is no error.
    """
    folders = [Path(os.path.abspath(path)) for path in options.registry_paths]  # noqa: PTH100 - links stay as typed
    problems = tuple(filter(None, map(folder_problem, folders)))
    if problems and not options.as_typed:
        raise UsageError(problems[0])
    home = host.home / ".evals"
    # the home folder inside the container
    mounts = {home: "/tmp/.evals"} if home.is_dir() else {}  # noqa: S108 - as openai/evals looks there
    places = zip(folders, container_registries(len(folders)), strict=True)
    # Upstream passes over what is not there, and no engine mounts it.
    return mounts | {folder: place for folder, place in places if folder.is_dir()}, problems


@contextmanager
def told_with_errors(warnings: Sequence[str]) -> Iterator[None]:
    """Add warnings to an error as notes: a folder that is not there may be why a set is not."""
    try:
        yield
    except RunnerError as error:
        for warning in warnings:
            error.add_note(f"warning: {warning}")
        raise


def check_apart(root: Path, mounts: Mapping[Path, str]) -> None:
    """Refuse a progress directory that evals could read: it has the results of others."""
    for folder in mounts:
        if root.is_relative_to(folder.resolve()):
            raise UsageError(
                f"the progress directory {root} lies in {folder}, which every eval can read; "
                "choose another --progress-dir, or name the registry's own folder"
            )


# openai/evals' own program.
OAIEVAL = "oaieval"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A run that could start: everything asked for exists and was understood.

    Attributes:
        options: what was asked for.
        layout: where its files go.
        engine: that answers.
        image: that evals get by default.
        resolution: the evals of the set.
        shard: the part of them to run; None is all.
        rules: per-eval container settings.
        environment: variables to hand in, by name.
        mounts: container path by host folder.
        own: the files of the user's registry folders, by the folder's place in the container.
        warnings: one line each, for people.
    """

    options: RunOptions
    layout: Layout
    engine: Engine
    image: Image
    resolution: Resolution
    shard: Shard | None
    rules: tuple[ContainerRule, ...]
    environment: dict[str, str]
    mounts: dict[Path, str]
    own: dict[str, tuple[RegistryFile, ...]]
    warnings: tuple[str, ...]


def prepare(
    options: RunOptions,
    host: Host,
    *,
    ours: Sequence[str] = (),
    resolution: Resolution | None = None,
) -> Prepared:
    """Find all that a run needs, and refuse what cannot be.

    Args:
        options: what was asked for.
        host: the machine.
        ours: spellings of our own options, to notice one that was mistyped and passed through.
        resolution: the evals, where the caller has a registry of its own.
    """
    check_names(options.model, options.eval_set)
    _check_text(options)
    shard = parse_shard(options.shard) if options.shard else None
    environment = handed_in(
        host.environ, names=options.env, env_file=options.env_file, model=options.model
    )
    warnings = check_passed_through(options.passed_through, handed_in=environment, ours=ours)
    mounts, registry_warnings = mounts_of(options, host)
    check_apart(options.progress_dir.resolve(), mounts)
    own = {place: tuple(read_folder(folder)) for folder, place in mounts.items()}
    engine = Engine()
    engine.ask_ahead()
    image = find_image(engine.api, options.settings.image)
    if resolution is None:
        with told_with_errors(registry_warnings):
            resolution = resolve_eval_set(
                _registry(engine, image, host, list(own.values())),
                options.eval_set,
                model=options.model,
                passed_through=options.passed_through,
            )
    return Prepared(
        options=options,
        layout=Layout(
            root=options.progress_dir.resolve(), model=options.model, eval_set=options.eval_set
        ),
        engine=engine,
        image=image,
        resolution=resolution,
        shard=shard,
        rules=parse_rules([f for files in own.values() for f in files if f.kind == "containers"]),
        environment=environment,
        mounts=mounts,
        own=own,
        warnings=(
            *warnings,
            *registry_warnings,
            *resolution.warnings,
            *_address_warning(options, environment),
            *_key_warning(options, environment),
        ),
    )


def _check_text(options: RunOptions) -> None:
    """Refuse what no record can hold, and no engine be asked for."""
    typed = (options.run_command, *options.passed_through, *options.registry_paths)
    for text in (*typed, str(options.progress_dir)):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {text!a} is not UTF-8; give it in UTF-8") from None


def _registry(
    engine: Engine, image: Image, host: Host, own: Sequence[Sequence[RegistryFile]]
) -> Registry:
    return merge_registries(
        [builtin_registry(engine, image, host), *(parse_registry(files) for files in own)]
    )


def state_of(prepared: Prepared, reader: StateReader | None = None) -> RunState:
    """What is on disk of the runs before this one; nothing where it starts over."""
    if prepared.options.resume:
        return RunState.from_directory(prepared.layout, reader)
    return RunState(model=prepared.layout.model, eval_set=prepared.layout.eval_set)


def planned(prepared: Prepared, state: RunState) -> Plan:
    """Split the evals into done and to do by what is on record."""
    options = prepared.options
    defaults = msgspec.structs.replace(options.settings, env=tuple(sorted(prepared.environment)))

    def settings(key: str) -> ContainerSettings:
        return settings_for(key, defaults=defaults, rules=prepared.rules, explicit=options.explicit)

    return make_plan(
        options,
        evals=prepared.resolution.evals,
        names=prepared.resolution.names,
        settings=settings,
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
            f"the variable {name}, which a file in containers/ names, is not set; export it"
        )
    return prepared.environment | {name: from_host(host.environ, name) for name in missing}


def kept_out(prepared: Prepared, host: Host) -> dict[str, str]:
    """Values that no snapshot may hold: of variables that an eval gets, or got when it ran.

    A finished eval may have printed what a rule handed in, also one that was not selected now.
    """
    named = {name for rule in prepared.rules for name in rule.env}
    return prepared.environment | {
        name: host.environ[name] for name in named & host.environ.keys() - prepared.environment
    }


def _key_warning(options: RunOptions, environment: Mapping[str, str]) -> tuple[str, ...]:
    if options.run_command != OAIEVAL or environment.get("OPENAI_API_KEY"):
        return ()
    return ("OPENAI_API_KEY is not set, and oaieval asks for it when it starts; export it",)


def _address_warning(options: RunOptions, environment: Mapping[str, str]) -> tuple[str, ...]:
    address = environment.get("OPENAI_BASE_URL", "")
    if options.settings.network == "host" or not any(
        f"//{name}" in address for name in ("localhost", "127.0.0.1", "[::1]")
    ):
        return ()
    warning = (
        "OPENAI_BASE_URL points at localhost, which inside a container is the container itself; "
        "use http://host.docker.internal:PORT, or --network host"
    )
    return (warning,)

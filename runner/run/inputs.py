"""What the user passes in: folders with registries, rules and code, and variables."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.files import make_folder, replace
from runner.gateway.providers import ADDRESSES, Access
from runner.host import Host
from runner.image.inside.arguments import LOCAL
from runner.image.requirements import read_requirements
from runner.model import ContainerSettings, container_registries, key_of
from runner.options import RunOptions
from runner.plan.obstacles import copied, ignored
from runner.records.layout import Layout
from runner.registry.code import check_code, classes_of, code_problem, registry_of
from runner.registry.content import MODELS
from runner.registry.entries import (
    Registry,
    RegistryFile,
    folder_problem,
    misnamed,
    parse_mapping,
    read_folder,
)
from runner.registry.rules import ContainerRule, parse_rules


class Folders(msgspec.Struct, frozen=True, kw_only=True):
    """What the user's folders hold.

    Attributes:
        model: `MODEL[,MODEL...]`, as typed.
        mounts: container path of each registry folder; later ones win.
        own: the registry files, by their folder's place in the container.
        rules: settings per eval.
        code: all folders of code that an eval may get.
        models: class of each model that a registry folder defines, by its name.
        warnings: one line each.
    """

    model: str
    mounts: dict[Path, str]
    own: dict[str, tuple[RegistryFile, ...]]
    rules: tuple[ContainerRule, ...]
    code: tuple[Path, ...]
    models: dict[str, str]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, options: RunOptions, host: Host, layout: Layout) -> "Folders":
        """Read them, and refuse what cannot be.

        Raises:
            UsageError: a folder is not what it should be, or evals could read or change results.
        """
        registries = [Path(path) for path in absolute(options.registry_paths)]
        problems = [problem for folder in registries if (problem := folder_problem(folder))]
        if problems and not options.as_typed:  # the drop-in ignores them, as upstream does
            raise problems[0]
        mounts = _mounts(registries, host)
        _check_apart(layout.root, mounts)
        own = {place: tuple(read_folder(folder)) for folder, place in mounts.items()}
        rules = parse_rules([f for files in own.values() for f in files if f.kind == "containers"])
        for file in [options.requirements, *(rule.settings.get("requirements") for rule in rules)]:
            if file is not None:
                read_requirements(str(file))
        misplaced = (path for folder in mounts for path in misnamed(folder))
        return cls(
            model=options.model,
            mounts=mounts,
            own=own,
            rules=tuple(rules),
            code=_code(options, rules, layout),
            models=_models(own),
            warnings=(*map(str, problems), *ignored(misplaced)),
        )

    def check_not_copied(self, builtin: Registry, own: Sequence[Registry]) -> None:
        """Refuse folders with the evals that the image has, such as a clone or a fork of upstream.

        Raises:
            UsageError: one does.
        """
        theirs, *ours = [
            {name: entry.source for name, entry in each.evals.items()} for each in (builtin, *own)
        ]
        for folder, entries in zip(self.mounts, ours, strict=True):
            if problem := copied(theirs, entries, folder):
                raise problem

    @property
    def model_is_code(self) -> bool:
        """Whether all models are the user's own code, which may need no key."""
        classes = [self.models.get(name, name) for name in self.model.split(",")]
        return set(classes_of(",".join(classes), self.code)) == set(classes)

    def classes(self, host: Host) -> Path | None:
        """A registry folder for the models that are classes of the user's code; None without any.

        openai/evals does not take a class as a model, but an entry may have the name of one.
        """
        missing = [name for name in classes_of(self.model, self.code) if name not in self.models]
        if not missing:
            return None
        folder = host.cache / "classes" / key_of(missing)
        for name, text in registry_of(missing).items():
            make_folder((folder / name).parent, option="XDG_CACHE_HOME")
            replace(folder / name, text.encode())
        return folder


def absolute(paths: Sequence[str]) -> tuple[str, ...]:
    """The folders that the user typed, each once; links stay as typed."""
    return tuple(dict.fromkeys(map(os.path.abspath, paths)))


def _mounts(folders: Sequence[Path], host: Host) -> dict[Path, str]:
    home = host.home / ".evals"
    # the home folder inside the container
    mounts = {home: "/tmp/.evals"} if home.is_dir() else {}  # noqa: S108 - as openai/evals looks there
    places = zip(folders, container_registries(len(folders)), strict=True)
    # Upstream ignores a folder that is not there, and no engine could mount it.
    return mounts | {folder: place for folder, place in places if folder.is_dir()}


def _check_apart(root: Path, folders: Iterable[Path]) -> None:
    """Refuse a progress directory that evals could read, because it has other evals' results."""
    for folder in folders:
        if root.is_relative_to(folder.resolve()):
            raise UsageError(
                f"the progress directory {root} lies in {folder}, which every eval can read",
                "choose another --progress-dir, or name the registry's own folder",
            )


def _code(options: RunOptions, rules: Sequence[ContainerRule], layout: Layout) -> tuple[Path, ...]:
    """All folders of code; each is checked."""
    sets = [absolute(options.code), *(rule.code for rule in rules)]
    folders = [Path(folder) for folder in dict.fromkeys(each for one in sets for each in one)]
    for folder in folders:
        if problem := code_problem(folder):
            raise problem
        path = folder.resolve()
        written = [each for each in layout.written if path.is_relative_to(each)]
        if written or path == layout.root:
            raise UsageError(
                f"the code folder {folder} lies in {[*written, path][0]}, where runs write",
                "move it elsewhere, or choose another --progress-dir",
            )
    for together in sets:
        check_code([Path(folder) for folder in together])
    return tuple(folders)


def _models(own: Mapping[str, Sequence[RegistryFile]]) -> dict[str, str]:
    files = (file for files in own.values() for file in files if file.kind in MODELS)
    entries = (parse_mapping(file.path, file.text) for file in files)
    return {
        name: str(spec.get("class")) if isinstance(spec, dict) else ""
        for found in entries
        for name, spec in found.items()
    }


# Hosts that are reached without a proxy; they are often this one.
_NO_PROXY = "no_proxy"


def provider_warnings(
    options: RunOptions, environment: Mapping[str, str], access: Access
) -> Iterator[str]:
    """Warnings about providers that cannot be asked, or not by evals.

    Args:
        environment: what is passed in.
        access: who gets what of it.
    """
    if not environment.get("OPENAI_API_KEY") and not access.routes:
        yield (
            "no key or address of a provider is set, so that the gateway can ask none; export "
            "OPENAI_API_KEY, or the variables of another provider"
            if options.gateway
            else "OPENAI_API_KEY is not set, and oaieval asks for it when it starts; export it"
        )
    if access.withheld:
        yield (
            f"evals do not get {', '.join(access.withheld)}, because the gateway knows no "
            "provider for it; --env NAME passes one in, --upstream NAME=URL leads to its provider"
        )


def local_addresses(
    settings: Iterable[ContainerSettings], values: Mapping[str, str], *, gateway: bool
) -> Iterator[str]:
    """Warnings about variables that lead containers to themselves and are meant for this host.

    Of a value, which may be a secret, only that address is shown.

    Args:
        settings: of the containers.
        values: of the variables that they name.
        gateway: whether they reach their providers through it.
    """
    named = {name for each in settings if each.network != "host" for name in each.env}
    for name in sorted(named & values.keys()):
        found = LOCAL.search(values[name])
        if found and name.lower() != _NO_PROXY:
            cure = "write http://host.docker.internal:PORT, or use --network host"
            if name.endswith(ADDRESSES) and not gateway:
                cure = f"leave --no-gateway out, {cure}"
            yield (
                f"the variable {name} names `{found[2]}`, which inside a container is the "
                f"container itself; {cure}"
            )

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from runner.errors import UsageError
from runner.host import KEYLESS_MODEL, PLACEHOLDER_KEY
from runner.model import ContainerSettings
from runner.registry.needs import Need

# Below this, what an image and a folder have in common may be chance.
_COPIED = 10

# Evals, or files, that one line names; the others are counted.
_NAMED = 3

# Where a solver of upstream's looks for its key.
PROVIDER_KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GEMINI_API_KEY",
    "together": "TOGETHER_API_KEY",
}

# With one of these set, what evals load from a hub comes from a cache.
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


# What may have been for lack of memory or time, unless it is sure.
_PASSING = {"hangs", "killed", "unseen", "network"}


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a look into an image found; `runner/image/inside.py` says it.

    Attributes:
        kind: what it is, a name of `_EXPLAINED` or of `_REFUSED`.
        sure: whether an eval surely fails of it; else people are told, and it is tried.
        said: Python's, the loader's or the parser's own words, or the value that it is about.
        where: file and line where Python raised it.
        file: of the registry, as containers see it.
        entry: name of the entry, or of the option.
        argument: of the entry.
        cls: the class.
        module: that is missing.
        path: of data, as containers see it.
        shape: type of a bad entry.
        alias: text of a bad entry that is text.
    """

    kind: str
    sure: bool = True
    said: str = ""
    where: str = ""
    file: str = ""
    entry: str = ""
    argument: str = ""
    cls: str = ""
    module: str = ""
    path: str = ""
    shape: str = ""
    alias: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a look into an image found.

    Attributes:
        looked: whether there is an `oaieval` that could be asked.
        refused: what every eval fails of.
        evals: by eval, what it fails of; a name that begins with `/` is a model's.
    """

    looked: bool = True
    refused: tuple[Finding, ...] = ()
    evals: dict[str, tuple[Finding, ...]] = {}

    def lasting(self) -> "Look":
        """The same without the evals of which another look may find something else.

        What was found of a model is found again only with some eval, so that none is kept then.
        """
        passing = {
            name
            for name, found in self.evals.items()
            if any(each.kind in _PASSING and not each.sure for each in found)
        }
        kept = {name: found for name, found in self.evals.items() if name not in passing}
        if any(name.startswith("/") for name in passing):
            kept = {}
        return msgspec.structs.replace(self, evals=kept)


class Obstacle(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Why an eval cannot run, and what to do, each a part of one line."""

    why: str
    cure: str


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What findings are explained with.

    Attributes:
        settings: of the containers.
        folders: the user's, by the place where containers see them.
        providers: whose models can be reached.
        environment: the variables that containers get.
        defines_model: whether the model is an entry of a registry.
    """

    settings: ContainerSettings
    folders: Mapping[str, Path]
    providers: frozenset[str] = frozenset()
    environment: Mapping[str, str] = {}
    defines_model: bool = False

    @property
    def has_data(self) -> bool:
        """Whether what it loads from a hub comes from a cache."""
        return not self.environment.keys().isdisjoint(_OFFLINE)

    @property
    def reaches_openai(self) -> bool:
        """Whether OpenAI, or who takes its place, is reached: by the gateway, or past it."""
        if "openai" in self.providers or self.environment.get("OPENAI_BASE_URL"):
            return True
        return self.environment.get("OPENAI_API_KEY", "") not in {"", PLACEHOLDER_KEY}

    def on_host(self, path: str) -> str:
        """A path of containers as people know it: the host's, or the image's."""
        for place, folder in self.folders.items():
            if path.startswith(f"{place}/"):
                return str(folder / path.removeprefix(f"{place}/"))
        return f"{self.settings.image}:{path}" if path else ""


def refusal(look: Look, around: Surroundings) -> UsageError | None:
    """The error for what every eval of a run would fail of; the others of them are its notes."""
    errors = [
        _REFUSED[found.kind](found, around)
        for found in look.refused
        if found.sure and found.kind in _REFUSED
    ]
    for other in errors[1:]:
        errors[0].add_note(f"Error: {other}")
    return errors[0] if errors else None


def obstacles(
    look: Look, evals: Sequence[str], around: Surroundings
) -> tuple[dict[str, Obstacle], tuple[str, ...]]:
    """What each eval surely fails of, and warnings of what some may fail of."""
    of_models = [
        found for name, each in look.evals.items() if name.startswith("/") for found in each
    ]
    found_by_eval: dict[str, Obstacle] = {}
    doubts: dict[str, list[str]] = {}
    for name in evals:
        for found in sorted((*of_models, *look.evals.get(name, ())), key=_rank):
            told = _EXPLAINED[found.kind](found, around)
            if told is None:
                continue
            if _is_sure(found, around):
                found_by_eval.setdefault(name, Obstacle(why=told.what, cure=told.cure))
            else:
                doubts.setdefault(str(told), []).append(name)
    warnings = [
        _DOUBTED[found.kind](found, around)
        for found in look.refused
        if not found.sure and found.kind in _DOUBTED
    ]
    return found_by_eval, (
        *(str(each) for each in warnings if each is not None),
        *(f"{some(names)}: {text}" for text, names in doubts.items()),
    )


# What helps an eval of upstream's that runs in no image of ours, by the kind of its need.
_CURES = {
    "engine": "run it with upstream's own `oaieval`, or leave it out",
    "data": "use an --image of your own with these files, or leave it out",
    "upstream": "leave it out; it fails in upstream's own `oaieval` too",
    "package": "add it with --requirements, use an --image that has it, or leave it out",
}


def obstacle_of(need: Need, around: Surroundings, *, model: str) -> Obstacle | None:
    """What an eval of upstream's fails of with this model; None if nothing keeps it from running.

    Args:
        need: what it needs, as measured in our images.
        around: of its container; with data that were fetched for it, as `environment` says.
        model: as typed.
    """
    kind = need.kind
    cure = _CURES.get(kind or "", "")
    if need.fetches and around.settings.network == "none" and not around.has_data:
        cure = "`evalset data fetch` brings it; or leave --network none out"
    elif kind == "model" and not around.reaches_openai:
        cure = "set OPENAI_API_KEY, or leave it out"
    elif kind == "dummy" and model == KEYLESS_MODEL:
        cure = "use another model"
    elif kind == "models" and "," not in model:
        cure = "give several models, as in gpt-4,gpt-4o"
    return Obstacle(why=f"it {need.why}", cure=cure) if cure else None


def lacks_image(name: str, extra: str) -> Obstacle:
    """What an eval fails of whose image is not here."""
    why = f"it needs the image {name}, which is not here"
    return Obstacle(why=why, cure=f"build it with `evalset image build --extra {extra}`")


def _rank(found: Finding) -> int:
    return list(_EXPLAINED).index(found.kind)


def _is_sure(found: Finding, around: Surroundings) -> bool:
    # a model of a provider is looked for at the provider first
    of_registry = found.kind == "entry" and Path(found.file).parent.name in _MODEL_KINDS
    return found.sure and (around.defines_model or not of_registry)


_MODEL_KINDS = ("completion_fns", "solvers")


def some(names: Sequence[str]) -> str:
    """A few names, and how many others there are."""
    named = ", ".join(names[:_NAMED])
    return f"{named} and {len(names) - _NAMED} more" if len(names) > _NAMED else named


def grouped(found: Mapping[str, Obstacle]) -> dict[Obstacle, list[str]]:
    """The evals that have the same obstacle, the largest groups first."""
    groups: dict[Obstacle, list[str]] = {}
    for name, obstacle in found.items():
        groups.setdefault(obstacle, []).append(name)
    return dict(sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0])))


# How a finding is told: what it is, and what to do; None where it is none here.
_Told = UsageError | None


def _entry(found: Finding, around: Surroundings) -> UsageError:
    where = around.on_host(found.file)
    if not found.entry:
        return UsageError(
            f"{where}: oaieval's loader refuses this file: {found.said}",
            "mend it, or take it out of the folder",
        )
    if found.alias:
        return UsageError(
            f"{where}: `{found.entry}` is plain text (`{found.alias}`), which oaieval's loader "
            "refuses, and all else in its folder with it",
            f"write `{found.entry}: {{id: {found.alias}}}`",
        )
    return UsageError(
        f"{where}: oaieval's loader refuses `{found.entry}` ({found.said}), and all else in "
        "its folder with it",
        "mend it, or take it out",
    )


def _arguments(found: Finding, _: Surroundings) -> UsageError:
    return UsageError(
        f"oaieval refuses the arguments that are passed through: {found.said}",
        "leave that out; `evalset run --help` shows evalset's own options",
    )


def _pairs(found: Finding, _: Surroundings) -> UsageError:
    return UsageError(
        f"{found.entry}: oaieval takes NAME=VALUE, with commas between them, not `{found.said}`",
        "write it like that",
    )


def _http(_: Finding, __: Surroundings) -> UsageError:
    return UsageError(
        "oaieval refuses --http-run without --http-run-url", "add the address, or leave it out"
    )


def _log(found: Finding, _: Surroundings) -> UsageError:
    return UsageError(
        f"--log_to_file {found.said} is a path inside the container, which is thrown away",
        "leave it out: what an eval prints is kept as its console log",
    )


def _start(found: Finding, around: Surroundings) -> UsageError:
    where = f" ({around.on_host(found.where)})" if found.where else ""
    return UsageError(
        f"oaieval cannot start in the image {around.settings.image}: {found.said}{where}",
        "mend the image, or the module on PYTHONPATH that takes another's place",
    )


_REFUSED = {
    "entry": _entry,
    "arguments": _arguments,
    "pairs": _pairs,
    "http": _http,
    "log": _log,
    "start": _start,
}


def _module(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"no module `{found.module}` in the image {around.settings.image}",
        "add it with --requirements, or use an --image that has it",
    )


def _own_module(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: no module `{found.module}`, which has `{found.cls}`",
        "name its folder with --code",
    )


def _import(found: Finding, around: Surroundings) -> _Told:
    where = f" ({around.on_host(found.where)})" if found.where else ""
    return UsageError(
        f"the class `{found.cls}` cannot be imported: {found.said}{where}",
        "mend the module, or use an --image in which it can",
    )


def _exits(found: Finding, _: Surroundings) -> _Told:
    return UsageError(
        f"importing the class `{found.cls}` ends the program: {found.said}",
        "mend the module",
    )


def _killed(found: Finding, _: Surroundings) -> _Told:
    return UsageError(
        f"importing the class `{found.cls}` was killed by signal {found.said}",
        "give it --memory",
    )


def _hangs(found: Finding, _: Surroundings) -> _Told:
    return UsageError(
        f"importing the class `{found.cls}` takes very long",
        "see whether it waits for something",
    )


def _unseen(_: Finding, __: Surroundings) -> _Told:
    return UsageError(
        "there was no time to see whether its class can be imported", "it is tried all the same"
    )


def _network(found: Finding, around: Surroundings) -> _Told:
    if around.settings.network != "none":
        return None
    return UsageError(
        f"the class `{found.cls}` needs a network when it is imported, and has none: {found.said}",
        "leave --network none out",
    )


def _loads(found: Finding, around: Surroundings) -> _Told:
    if around.settings.network != "none" or around.has_data:
        return None
    return UsageError(
        f"it loads {found.said.partition('://')[0]}:// and has no network",
        "leave --network none out",
    )


def _takes(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: the class `{found.cls}` does not take its `args`: {found.said}",
        "mend them",
    )


def _data(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: there is no data `{found.said}`, which `{found.argument}` names",
        "put it below the folder `data` of its registry, from which the path starts",
    )


def _pointer(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{around.on_host(found.path)} is a pointer of Git LFS, not the data",
        "run `git lfs pull`; actions/checkout needs `lfs: true`",
    )


def _unreadable(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: containers may not read `{found.said}`",
        "let the user that runs evalset read it",
    )


def _absolute(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: `{found.argument}` names `{found.said}`, a path that is not "
        "in the container",
        f"put the file below the folder `data` of the registry and write its path from there, "
        f"such as `{inside_data(found.said)}`",
    )


def inside_data(path: str) -> str:
    """What to write for an absolute path of data: what comes behind `data/`, or the last name."""
    behind = re.search(r"/data/(.+)", path)
    return behind[1] if behind else PurePosixPath(path).name


def _localhost(found: Finding, around: Surroundings) -> _Told:
    if around.settings.network == "host":
        return None
    return UsageError(
        f"{_named(found, around)}: `{found.argument}` names `{found.said}`, which inside a "
        "container is the container itself",
        "write http://host.docker.internal:PORT, or use --network host",
    )


def _outside(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: `{found.argument}` names `{found.said}`, a path of the host",
        "put it into a registry folder, and write where containers see it, below /registry/0",
    )


def _written(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: `{found.argument}` names `{found.said}`; what an eval writes "
        "there is thrown away",
        "name a path below /tmp/evallogs, which is kept",
    )


def _spec(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: oaieval cannot make this entry: {found.said}", "mend it"
    )


def _name(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: oaieval needs a dot in an eval's name",
        f"call it `{found.entry}.dev.v0`, or the like",
    )


def _unknown(found: Finding, _: Surroundings) -> _Told:
    return UsageError(
        f"oaieval finds no eval `{found.entry}` in the container",
        "check the file's name and rights",
    )


def _grader(found: Finding, around: Surroundings) -> _Told:
    return UsageError(
        f"{_named(found, around)}: no registry has `{found.said}` in modelgraded/",
        "check its `modelgraded_spec`",
    )


def _provider(found: Finding, around: Surroundings) -> _Told:
    key = PROVIDER_KEYS.get(found.said, "")
    if not key or found.said in around.providers or around.environment.get(key):
        return None
    if found.said == "google":
        return UsageError(
            f"`{found.entry}` asks {found.said}, which the gateway does not cover",
            f"hand its key in with --env {key}",
        )
    return UsageError(f"`{found.entry}` asks {found.said}, and {key} is not set", "export it")


# What is told of an eval that has several is what comes first here.
_EXPLAINED = {
    "entry": _entry,
    "module": _module,
    "own_module": _own_module,
    "import": _import,
    "exits": _exits,
    "killed": _killed,
    "hangs": _hangs,
    "unseen": _unseen,
    "takes": _takes,
    "data": _data,
    "pointer": _pointer,
    "unreadable": _unreadable,
    "absolute": _absolute,
    "localhost": _localhost,
    "outside": _outside,
    "written": _written,
    "spec": _spec,
    "name": _name,
    "unknown": _unknown,
    "grader": _grader,
    "network": _network,
    "loads": _loads,
    "provider": _provider,
}

# Told of arguments that are every eval's.
_DOUBTED: Mapping[str, Callable[[Finding, Surroundings], _Told]] = {
    "log": _log,
    "localhost": _localhost,
    "outside": _outside,
}

NO_GPU = Obstacle(
    why="the engine cannot give it a GPU",
    cure="install the NVIDIA container toolkit, or leave --gpus out",
)


def _named(found: Finding, around: Surroundings) -> str:
    """Where the entry stands; a line names the eval itself."""
    return around.on_host(found.file) or f"`{found.entry}`"


def copied(builtin: Mapping[str, str], own: Mapping[str, str], folder: Path) -> UsageError | None:
    """The error where a folder looks like a copy of the registry inside the image; else None.

    Args:
        builtin, own: names of evals, and the files that they are in.
    """
    common = own.keys() & builtin.keys()
    if len(common) < _COPIED:
        return None
    files = sorted({Path(own[name]).name for name in own.keys() - common})
    if not files:
        cure = "leave --registry-path out: the image has all of it"
    else:
        cure = (
            f"copy your own files ({some(files)}, and the data that they name) into a folder of "
            "their own and name that, or build an --image from your copy and leave "
            "--registry-path out"
        )
    return UsageError(
        f"the registry folder {folder} looks like upstream's own registry, which every image has "
        f"already: {len(common)} of its {len(own)} evals are there",
        cure,
    )


def passed_over(paths: Iterable[Path]) -> tuple[str, ...]:
    """Warnings of files that no registry reads because of how their names end."""
    return tuple(
        f"{path} is passed over: a registry reads files that end in .yaml; rename it"
        for path in paths
    )

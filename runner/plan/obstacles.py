"""What may keep evals of a run from running: what a look into an image found, and what is known.

The program in runner/image/inside/ looks, and explanations.py tells people what it found. What is
known was measured for every eval of upstream's.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.host import KEYLESS_MODEL, PLACEHOLDER_KEY
from runner.model import ContainerSettings
from runner.options import TIMEOUT
from runner.registry.needs import Need

# With fewer evals in common, an image and a registry folder may be alike by chance.
_COPIED = 10

# Evals, or files, that one line names; the others are counted.
_NAMED = 3

# Kinds of findings that lack of memory or time may have caused, unless they are sure.
_MAY_CHANGE = {"hangs", "killed", "unseen", "network"}

# With one of these set, what evals load from a hub comes from a cache.
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that may keep an eval from running.

    Attributes:
        kind: what it is, a key of one of the tables in explanations.py.
        sure: whether an eval surely fails of it; if not, people are warned, and it is tried.
        said: the words of Python, the loader or the parser, or the value that it is about.
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
        refused: what keeps every eval from running.
        evals: what keeps an eval from running, by its name; a name that begins with `/` is a
            model's.
    """

    looked: bool = True
    refused: tuple[Finding, ...] = ()
    evals: dict[str, tuple[Finding, ...]] = {}

    def lasting(self) -> "Look":
        """The same without the evals about which another look may find something else.

        A look is always at some eval, so that no eval is kept if a model has to be looked at again.
        """
        changing = {
            name
            for name, found in self.evals.items()
            if any(each.kind in _MAY_CHANGE and not each.sure for each in found)
        }
        kept = {name: found for name, found in self.evals.items() if name not in changing}
        if any(name.startswith("/") for name in changing):
            kept = {}
        return msgspec.structs.replace(self, evals=kept)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The containers of the evals that findings are about.

    Attributes:
        settings: what they get.
        folders: the user's, by the place where containers see them.
        providers: those whose models the containers can reach through the gateway.
        environment: the variables that containers get.
        defines_model: whether the model is an entry of a registry.
        astray: where data are on the host that an entry names by a path from elsewhere than its
            registry's `data`: by the entry's file, as containers see it, and the path.
    """

    settings: ContainerSettings
    folders: Mapping[str, Path]
    providers: frozenset[str] = frozenset()
    environment: Mapping[str, str] = {}
    defines_model: bool = False
    astray: Mapping[tuple[str, str], Path] = {}

    @property
    def has_data(self) -> bool:
        """Whether the data that evals load from a hub come from a cache."""
        return not self.environment.keys().isdisjoint(_OFFLINE)

    @property
    def reaches_openai(self) -> bool:
        """Whether OpenAI, or a server in its place, can be reached, with or without the gateway."""
        if "openai" in self.providers or self.environment.get("OPENAI_BASE_URL"):
            return True
        return self.environment.get("OPENAI_API_KEY", "") not in {"", PLACEHOLDER_KEY}

    def folder_of(self, path: str) -> tuple[str, Path] | None:
        """The user's folder that has a path in containers: its place there, and on the host."""
        return next((it for it in self.folders.items() if path.startswith(f"{it[0]}/")), None)

    def on_host(self, path: str) -> str:
        """A path in containers as people know it: that of the host, or one in the image."""
        if found := self.folder_of(path):
            place, folder = found
            return str(folder / path.removeprefix(f"{place}/"))
        return f"{self.settings.image}:{path}" if path else ""


class Obstacle(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Why an eval cannot run, and what to do, each a part of one line."""

    why: str
    cure: str


NO_GPU = Obstacle(
    why="the engine cannot give it a GPU",
    cure="install the NVIDIA container toolkit, or leave --gpus out",
)


# What helps an eval of upstream's that runs in no image of ours, by the kind of its need.
_CURES = {
    "engine": "run it with upstream's own `oaieval`, or skip it",
    "data": "use an --image of your own with these files, or skip it",
    "upstream": "skip it; it fails in upstream's own `oaieval` too",
    "package": "add it with --requirements, use an --image that has it, or skip it",
}


def obstacle_of(need: Need, context: Context, *, model: str) -> Obstacle | None:
    """Why an eval of upstream's will fail with this model; None if nothing keeps it from running.

    Args:
        need: what it needs, as measured in our images.
        context: its container; `environment` says whether data were fetched for it.
        model: as typed.
    """
    kind = need.kind
    cure = _CURES.get(kind or "", "")
    if need.fetches and context.settings.network == "none" and not context.has_data:
        cure = "fetch it with `evalset data fetch`, or leave --network none out"
    elif kind == "download" and context.settings.network == "none":
        cure = "leave --network none out"
    elif kind == "model" and not context.reaches_openai:
        cure = "set OPENAI_API_KEY, or skip it"
    elif kind == "dummy" and model == KEYLESS_MODEL:
        cure = "use another model"
    elif kind == "models" and "," not in model:
        cure = "give several models, as in gpt-4,gpt-4o"
    return Obstacle(why=f"it {need.why}", cure=cure) if cure else None


def caution_about(need: Need, context: Context, *, timeout: float, fetch: str) -> str:
    """What people should know of an eval of upstream's that can run; empty if nothing.

    Args:
        need, context: as for `obstacle_of`, which found nothing.
        timeout: its time limit.
        fetch: the command that brings data into the cache.
    """
    if need.fetches and not context.has_data:
        return f"loads data from elsewhere in each run; `{fetch}` brings them once, and pins them"
    if need.kind == "download":
        return (
            f"{need.why} in each run, where `evalset data fetch` cannot help; skip it with "
            "--exclude if that takes too long"
        )
    if need.kind == "time" and timeout <= TIMEOUT:
        return f"{need.why}; give it some hours with --timeout, or skip it with --exclude"
    return ""


def lacks_image(name: str, extra: str) -> Obstacle:
    """Why an eval fails whose image is not on this host."""
    why = f"it needs the image {name}, which is not here"
    return Obstacle(why=why, cure=f"build it with `evalset image build --extra {extra}`")


def some(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    named = ", ".join(names[:_NAMED])
    return f"{named} and {len(names) - _NAMED} more" if len(names) > _NAMED else named


def grouped(found: Mapping[str, Obstacle]) -> dict[Obstacle, list[str]]:
    """The evals that have the same obstacle, the largest groups first."""
    groups: dict[Obstacle, list[str]] = {}
    for name, obstacle in found.items():
        groups.setdefault(obstacle, []).append(name)
    return dict(sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def copied(builtin: Mapping[str, str], own: Mapping[str, str], folder: Path) -> UsageError | None:
    """The error for a folder that looks like a copy of the image's registry; None for others.

    Args:
        builtin: the file of each eval of the image's registry, by the eval's name.
        own: the same of the folder.
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


def ignored(paths: Iterable[Path]) -> tuple[str, ...]:
    """Warnings about files that no registry reads because of how their names end."""
    return tuple(
        f"{path} is ignored: a registry reads only files that end in .yaml; rename it"
        for path in paths
    )

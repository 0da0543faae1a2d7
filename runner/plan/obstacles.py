"""Why evals of a run cannot run, and what helps.

A look into an image finds some of it, and some was measured for every eval of upstream's.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.host import KEYLESS_MODEL
from runner.plan.explanations import DOUBTS, EXPLANATIONS, REFUSALS, Context
from runner.plan.findings import Finding, Look
from runner.registry.needs import Need

# With fewer evals in common, an image and a registry folder may be alike by chance.
_COPIED = 10

# Evals, or files, that one line names; the others are counted.
_NAMED = 3

_MODEL_KINDS = ("completion_fns", "solvers")


class Obstacle(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Why an eval cannot run, and what to do, each a part of one line."""

    why: str
    cure: str


NO_GPU = Obstacle(
    why="the engine cannot give it a GPU",
    cure="install the NVIDIA container toolkit, or leave --gpus out",
)


def refusal(look: Look, context: Context) -> UsageError | None:
    """The error that every eval of a run would fail with; further ones are its notes."""
    errors = [
        REFUSALS[found.kind](found, context)
        for found in look.refused
        if found.sure and found.kind in REFUSALS
    ]
    for other in errors[1:]:
        errors[0].add_note(f"Error: {other}")
    return errors[0] if errors else None


def obstacles(
    look: Look, evals: Sequence[str], context: Context
) -> tuple[dict[str, Obstacle], tuple[str, ...]]:
    """Why evals will surely fail, by eval, and warnings about why some may fail."""
    of_models = [
        found for name, each in look.evals.items() if name.startswith("/") for found in each
    ]
    found_by_eval: dict[str, Obstacle] = {}
    doubts: dict[str, list[str]] = {}
    for name in evals:
        for found in sorted((*of_models, *look.evals.get(name, ())), key=_rank):
            told = EXPLANATIONS[found.kind](found, context)
            if told is None:
                continue
            if _is_sure(found, context):
                found_by_eval.setdefault(name, Obstacle(why=told.what, cure=told.cure))
            else:
                doubts.setdefault(str(told), []).append(name)
    warnings = [
        DOUBTS[found.kind](found, context)
        for found in look.refused
        if not found.sure and found.kind in DOUBTS
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
        cure = "`evalset data fetch` brings it; or leave --network none out"
    elif kind == "download" and context.settings.network == "none":
        cure = "leave --network none out"
    elif kind == "model" and not context.reaches_openai:
        cure = "set OPENAI_API_KEY, or leave it out"
    elif kind == "dummy" and model == KEYLESS_MODEL:
        cure = "use another model"
    elif kind == "models" and "," not in model:
        cure = "give several models, as in gpt-4,gpt-4o"
    return Obstacle(why=f"it {need.why}", cure=cure) if cure else None


def lacks_image(name: str, extra: str) -> Obstacle:
    """Why an eval fails whose image is not on this host."""
    why = f"it needs the image {name}, which is not here"
    return Obstacle(why=why, cure=f"build it with `evalset image build --extra {extra}`")


def _rank(found: Finding) -> int:
    return list(EXPLANATIONS).index(found.kind)


def _is_sure(found: Finding, context: Context) -> bool:
    # a bad entry does not matter to a model that a provider serves
    of_registry = found.kind == "entry" and Path(found.file).parent.name in _MODEL_KINDS
    return found.sure and (context.defines_model or not of_registry)


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

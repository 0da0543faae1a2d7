"""How a finding is told: what it means for an eval, and what to do.

Each kind of finding has a function here, and its place in a table says when it applies.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from runner.errors import UsageError
from runner.plan.grammar import oaievals_spelling
from runner.plan.obstacles import Context, Finding, Look, Obstacle, some

_MODEL_KINDS = ("completion_fns", "solvers")

# Where a solver of upstream's looks for its key.
PROVIDER_KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GEMINI_API_KEY",
    "together": "TOGETHER_API_KEY",
}

# What it means, and what to do; None where it keeps no eval from running.
_Explanation = UsageError | None


def _named(found: Finding, context: Context) -> str:
    """The file that the entry is in, because the line names the eval already."""
    return context.on_host(found.file) or f"`{found.entry}`"


def _entry(found: Finding, context: Context) -> UsageError:
    where = context.on_host(found.file)
    if not found.entry:
        return UsageError(
            f"{where}: oaieval's loader refuses this file: {found.said}",
            "fix it, or remove it from the folder",
        )
    if found.alias:
        return UsageError(
            f"{where}: `{found.entry}` is plain text (`{found.alias}`), which oaieval's loader "
            "refuses, together with everything else in its folder",
            f"write `{found.entry}: {{id: {found.alias}}}`",
        )
    return UsageError(
        f"{where}: oaieval's loader refuses `{found.entry}` ({found.said}), together with "
        "everything else in its folder",
        "fix it, or remove it",
    )


def _arguments(found: Finding, _: Context) -> UsageError:
    options = [word.partition("=")[0] for word in found.said.split() if word.startswith("--")]
    spelled = [oaievals_spelling(option) for option in options]
    if spelled and all(spelled):
        return UsageError(
            f"oaieval refuses the arguments that are passed through: {found.said}",
            f"oaieval's is `{'` and `'.join(spelled)}`",
        )
    return UsageError(
        f"oaieval refuses the arguments that are passed through: {found.said}",
        "leave that out; `evalset run --help` shows evalset's own options",
    )


def _pairs(found: Finding, _: Context) -> UsageError:
    return UsageError(
        f"{found.entry}: oaieval takes NAME=VALUE, with commas between them, not `{found.said}`",
        "write it that way",
    )


def _http(_: Finding, __: Context) -> UsageError:
    return UsageError(
        "oaieval refuses --http-run without --http-run-url", "add the address, or leave it out"
    )


def _log(found: Finding, _: Context) -> UsageError:
    return UsageError(
        f"--log_to_file {found.said} is a path inside the container, which is thrown away",
        "leave it out: what an eval prints is kept as its console log",
    )


def _start(found: Finding, context: Context) -> UsageError:
    where = f" ({context.on_host(found.where)})" if found.where else ""
    return UsageError(
        f"oaieval cannot start in the image {context.settings.image}: {found.said}{where}",
        "fix the image, or the module on PYTHONPATH that hides another one",
    )


# About what every eval would fail of.
REFUSALS = {
    "entry": _entry,
    "arguments": _arguments,
    "pairs": _pairs,
    "http": _http,
    "log": _log,
    "start": _start,
}


def _module(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"no module `{found.module}` in the image {context.settings.image}",
        "add it with --requirements, or use an --image that has it",
    )


def _own_module(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: no module `{found.module}`, which has `{found.cls}`",
        "name its folder with --code",
    )


def _import(found: Finding, context: Context) -> _Explanation:
    where = f" ({context.on_host(found.where)})" if found.where else ""
    return UsageError(
        f"the class `{found.cls}` cannot be imported: {found.said}{where}",
        "fix the module, or use an --image in which it can",
    )


def _exits(found: Finding, _: Context) -> _Explanation:
    return UsageError(
        f"importing the class `{found.cls}` ends the program: {found.said}",
        "fix the module",
    )


def _killed(found: Finding, _: Context) -> _Explanation:
    return UsageError(
        f"importing the class `{found.cls}` was killed by signal {found.said}",
        "raise --memory",
    )


def _hangs(found: Finding, _: Context) -> _Explanation:
    return UsageError(
        f"importing the class `{found.cls}` takes very long",
        "see whether it waits for something",
    )


def _unseen(_: Finding, __: Context) -> _Explanation:
    return UsageError(
        "there was no time to see whether its class can be imported", "it is tried all the same"
    )


def _network(found: Finding, context: Context) -> _Explanation:
    if context.settings.network != "none":
        return None
    return UsageError(
        f"the class `{found.cls}` needs a network when it is imported, and has none: {found.said}",
        "leave --network none out",
    )


def _loads(found: Finding, context: Context) -> _Explanation:
    if context.settings.network != "none" or context.has_data:
        return None
    return UsageError(
        f"it loads {found.said.partition('://')[0]}:// and has no network",
        "leave --network none out",
    )


def _takes(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: the class `{found.cls}` does not take its `args`: {found.said}",
        "fix them",
    )


def _data(found: Finding, context: Context) -> _Explanation:
    home, path = context.folder_of(found.file), context.astray.get((found.file, found.said))
    if home and path:
        data = home[1] / "data"
        if path.is_relative_to(data):
            inside, cure = path.relative_to(data), ""
        else:
            inside = Path(re.sub(r"^(\.\.?/)*(data/)?", "", found.said))
            cure = f"copy the file to {data / inside}, and "
        return UsageError(
            f"{_named(found, context)}: `{found.argument}` names `{found.said}`, a path that "
            f"starts at the folder `data` of the registry, but the file is {path}",
            f"{cure}write `{inside}`",
        )
    return UsageError(
        f"{_named(found, context)}: there is no data `{found.said}`, which `{found.argument}` "
        "names",
        "put it below the folder `data` of its registry, from which the path starts",
    )


def _pointer(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{context.on_host(found.path)} is a pointer of Git LFS, not the data",
        "run `git lfs pull`; actions/checkout needs `lfs: true`",
    )


def _unreadable(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: containers may not read `{found.said}`",
        "give the user that runs evalset permission to read it",
    )


def _absolute(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: `{found.argument}` names `{found.said}`, a path that is not "
        "in the container",
        f"put the file below the folder `data` of the registry and write its path from there, "
        f"such as `{inside_data(found.said)}`",
    )


def inside_data(path: str) -> str:
    """What to write for an absolute path of data: what comes after `data/`, or the last name."""
    after = re.search(r"/data/(.+)", path)
    return after[1] if after else PurePosixPath(path).name


def _localhost(found: Finding, context: Context) -> _Explanation:
    if context.settings.network == "host":
        return None
    return UsageError(
        f"{_named(found, context)}: `{found.argument}` names `{found.said}`, which inside a "
        "container is the container itself",
        "write http://host.docker.internal:PORT, or use --network host",
    )


def _outside(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: `{found.argument}` names `{found.said}`, a path of the host",
        "put it into a registry folder, and write where containers see it, below /registry/0",
    )


def _written(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: `{found.argument}` names `{found.said}`; what an eval writes "
        "there is thrown away",
        "name a path below /tmp/evallogs, which is kept",
    )


def _spec(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: oaieval cannot make this entry: {found.said}", "fix it"
    )


def _name(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: oaieval needs a dot in an eval's name",
        f"call it `{found.entry}.dev.v0`, or the like",
    )


def _unknown(found: Finding, _: Context) -> _Explanation:
    return UsageError(
        f"oaieval finds no eval `{found.entry}` in the container",
        "check the file's name and permissions",
    )


def _grader(found: Finding, context: Context) -> _Explanation:
    return UsageError(
        f"{_named(found, context)}: no registry has `{found.said}` in modelgraded/",
        "check its `modelgraded_spec`",
    )


def _provider(found: Finding, context: Context) -> _Explanation:
    key = PROVIDER_KEYS.get(found.said, "")
    if not key or found.said in context.providers or context.environment.get(key):
        return None
    if found.said == "google":
        return UsageError(
            f"`{found.entry}` asks {found.said}, which the gateway does not cover",
            f"pass its key in with --env {key}",
        )
    return UsageError(f"`{found.entry}` asks {found.said}, and {key} is not set", "export it")


# About one eval or model. Of several findings about an eval, the first in this order is told.
EXPLANATIONS = {
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

# About an argument that every eval gets, and of which evals may fail.
DOUBTS: Mapping[str, Callable[[Finding, Context], _Explanation]] = {
    "log": _log,
    "localhost": _localhost,
    "outside": _outside,
}


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


def _rank(found: Finding) -> int:
    return list(EXPLANATIONS).index(found.kind)


def _is_sure(found: Finding, context: Context) -> bool:
    # a bad entry does not matter to a model that a provider serves
    of_registry = found.kind == "entry" and Path(found.file).parent.name in _MODEL_KINDS
    return found.sure and (context.defines_model or not of_registry)

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.engine import docker_py
from runner.engine.container import ContainerSpec
from runner.engine.image_probe import NO_COMMAND, try_out
from runner.errors import EnvironmentFault
from runner.files import UNREADABLE, read_json, replace
from runner.host import Host
from runner.plan.obstacles import Finding, Look

_INSIDE = Path(__file__).with_name("inside")

# The modules of the program, each after those that it imports.
_MODULES = ("classes", "arguments", "program")

# Makes modules of a package that only this process has, and starts the program. An image has none
# of our files, and may have a package `runner` of its own.
_LOADER = """
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
for name, source in {sources!r}:
    sys.modules[name] = module = module_from_spec(ModuleSpec(name, None))
    exec(compile(source, "<" + name + ">", "exec"), module.__dict__)
module.main()
"""

# Seconds that the import of one class may take, and all of them.
_ONE_CLASS = 30
_ALL_CLASSES = 60

# Answers that the cache keeps; each change of a registry makes a new one.
_KEPT = 50

# The kernel allows at most 128 KiB for one argument.
_PIECE = 100_000

# Starts the Python that `oaieval` names in its first line or, where pip found that line too long,
# in its second one. A shell exits with 127 if there is no such command.
_FIND_PYTHON = r"""
p=$(command -v oaieval) || exit 127
{ IFS= read -r a; IFS= read -r b; } <"$p"
case $a in
    '#!'*python*|'#!'*pypy*) a=${a#??} ;;
    *) case $b in
        "'''exec' "*python*|"'''exec' "*pypy*) a=${b#"'''exec' "}; a=${a%' "$0" "$@"'} ;;
        *) exit 127 ;;
    esac ;;
esac
eval "exec $a -c \"\$@\""
"""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an image.

    Attributes:
        models: completion functions or solvers.
        arguments: of `oaieval`, behind the eval.
        evals: resolved keys.
        content: a hash of what is in the folders that the container sees.
        tested: evals whose classes can be imported there, as is known already.
    """

    models: tuple[str, ...]
    arguments: tuple[str, ...]
    evals: tuple[str, ...]
    content: str
    tested: tuple[str, ...] = ()


def program() -> str:
    """The program that runs in the image, as one text for `python -c`."""
    sources = [
        (f"evalset_inside.{name}", (_INSIDE / f"{name}.py").read_text()) for name in _MODULES
    ]
    return _LOADER.format(sources=sources)


def look_inside(
    api: docker_py.Api, spec: ContainerSpec, question: Question, host: Host
) -> Look | None:
    """Ask the `oaieval` of an image what it would refuse; about each eval it is asked once.

    Args:
        api: a client.
        spec: the container of any of the evals, as a run would create it.
        question: what to ask.
        host: has the cache.

    Returns:
        The answer for these evals; None if none came.

    Raises:
        EnvironmentFault: the engine does not do its part.
        NoGpuError: it cannot give the container its GPUs.
    """
    script = program()
    path = host.cache / "looks" / f"{_key(script, spec, question)}.json"
    known = read_json(path, Look)
    missing = [name for name in question.evals if known is None or name not in known.evals]
    if missing:
        found = _ask(api, spec, script, question, missing)
        if found is None:
            return None
        known = _joined(known, found, missing)
        _keep(path, known.lasting())
    return known


def _key(script: str, spec: ContainerSpec, question: Question) -> str:
    about = [
        script,
        spec.image,
        spec.user,
        sorted(spec.mounts.values()),
        sorted(spec.environment.items()),
        question.models,
        question.arguments,
        question.content,
    ]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _ask(
    api: docker_py.Api,
    spec: ContainerSpec,
    script: str,
    question: Question,
    evals: Sequence[str],
) -> Look | None:
    asked = {
        "models": question.models,
        "arguments": question.arguments,
        "evals": evals,
        "tested": question.tested,
        "seconds": _ONE_CLASS,
        "seconds_in_all": _ALL_CLASSES,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(asked).encode())).decode()
    pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
    answer = try_out(api, spec, ("/bin/sh", "-c", _FIND_PYTHON, "sh", script, *pieces))
    if answer is not None and answer.exit_code == NO_COMMAND:
        return Look(looked=False)
    if answer is None or answer.exit_code:
        return None
    try:
        return msgspec.json.decode(answer.stdout, type=Look)
    except UNREADABLE:
        return None


def _joined(known: Look | None, found: Look, asked: Sequence[str]) -> Look:
    """The findings of before with the new ones; evals that were asked about now may have none."""
    nothing: dict[str, tuple[Finding, ...]] = dict.fromkeys(asked, ())
    before = known.evals if known else {}
    return msgspec.structs.replace(found, evals={**before, **nothing, **found.evals})


def _keep(path: Path, look: Look) -> None:
    """Keep a look in the cache; if that fails, the image is asked again next time."""
    with suppress(EnvironmentFault, OSError):
        replace(path, msgspec.json.encode(look))
        kept = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink()

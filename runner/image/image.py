import re
from contextlib import suppress
from typing import Any

import msgspec

from runner.engine import docker_py
from runner.engine.engine import Engine, as_environment_fault
from runner.engine.image_probe import NO_COMMAND, ask
from runner.errors import EnvironmentFault
from runner.files import read_json, replace
from runner.host import Host
from runner.options import DEFAULT_IMAGE, EXTRAS, extra_image
from runner.registry.entries import Registry, RegistryCache, RegistryFile, parse_registry


def pull(api: docker_py.Api, name: str) -> str | None:
    """Pull an image; return why that failed, or None if it did not."""
    with as_environment_fault():
        try:
            for line in api.pull(name, stream=True, decode=True):
                if "error" in line:
                    return _why(line["error"])
        except docker_py.APIError as error:
            return _why(str(error.explanation or error))
    return None


def _why(said: str) -> str:
    text = " ".join(said.split())
    if any(hint in text for hint in ("no such host", "dial tcp", "timeout", "Temporary failure")):
        return f"no image registry can be reached ({text.removeprefix('Get ')})"
    return f"the image registry said: {text}"


# The label with the image's fingerprint, by which hosts know that they built the same.
FINGERPRINT = "evalset.fingerprint"

# The label with the identity of the base.
BASE = "evalset.base"

# The prefix of the labels that our build sets.
_OURS = "evalset."


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that the engine has.

    Attributes:
        id: `sha256:...`, of its configuration; it differs between hosts that build the same.
        digest: its repository digest, of the name's own repository if that is among those it
            was pulled from; None for an image that no image registry knows.
        python_path: its own `PYTHONPATH`; empty if it has none.
        hash_seed: its own `PYTHONHASHSEED`, likewise.
        fingerprint: of its content, as `build` labels it: the same on all hosts that build the
            same. It may be that of an image below it; `own_fingerprint` tells.
    """

    id: str
    name: str
    digest: str | None
    fingerprint: str | None
    labels: dict[str, str]
    python_path: str = ""
    hash_seed: str = ""


def find_image(api: docker_py.Api, name: str) -> Image:
    """Look an image up; pull it if it is missing and not one that evalset builds."""
    if (image := look_up_image(api, name)) is not None:
        return image
    if name == DEFAULT_IMAGE:
        raise EnvironmentFault(
            f"the image {name} is not here", "build it with `evalset image build`"
        )
    for extra in EXTRAS:
        if name == extra_image(extra):
            raise EnvironmentFault(
                f"the image {name} is not here",
                f"build it with `evalset image build --extra {extra}`",
            )
    if refusal := pull(api, name):
        raise EnvironmentFault(
            f"the image {name} is not here and cannot be pulled: {refusal}",
            "check its name, `docker login`, and the engine's network",
        )
    return require_image(api, name, "pulled")


def require_image(api: docker_py.Api, name: str, how: str) -> Image:
    """Look up an image that was made a moment ago; `how` says in which way, such as `pulled`."""
    image = look_up_image(api, name)
    if image is None:
        raise EnvironmentFault(f"the image {name} was {how} and is gone again", "run this again")
    return image


def own_fingerprint(api: docker_py.Api, image: Image) -> str | None:
    """The fingerprint of an image that evalset built; None for one that was built on top of it.

    Such an image inherits the label, but our labels are not set by its last step.
    """
    if image.fingerprint is None:
        return None
    with as_environment_fault():
        steps: list[dict[str, Any]] = api.history(image.id)  # type: ignore[no-untyped-call] # its stubs lack it
    return image.fingerprint if f"LABEL {_OURS}" in steps[0]["CreatedBy"] else None


def look_up_image(api: docker_py.Api, name: str) -> Image | None:
    """Look an image up at the engine, without pulling it; None if the engine does not have it."""
    with as_environment_fault():
        try:
            details: dict[str, Any] = api.inspect_image(name)  # type: ignore[no-untyped-call] # its stubs lack it
        except docker_py.ImageNotFound:
            return None
    labels: dict[str, str] = details["Config"].get("Labels") or {}
    environ = dict(each.split("=", 1) for each in details["Config"].get("Env") or ())
    own = f"{_repository(name)}@"
    digests = sorted(details.get("RepoDigests") or (), key=lambda it: (not it.startswith(own), it))
    return Image(
        id=details["Id"],
        name=name,
        digest=digests[0] if digests else None,
        fingerprint=labels.get(FINGERPRINT),
        labels=labels,
        python_path=environ.get("PYTHONPATH", ""),
        hash_seed=environ.get("PYTHONHASHSEED", ""),
    )


def _repository(name: str) -> str:
    """A name without digest and tag; what a `/` follows is a port and not a tag."""
    return re.sub(r":[^/]*$", "", name.partition("@")[0])


# Does not import evals, which would take a second. Reads direct children only, as upstream does.
READ_REGISTRY = """
import importlib.util, json, pathlib, sys
spec = importlib.util.find_spec("evals")
found = {}
for package in (spec.submodule_search_locations or ()) if spec else ():
    for kind in "eval_sets", "evals", "completion_fns", "solvers", "modelgraded":
        for path in sorted((pathlib.Path(package) / "registry" / kind).glob("*.yaml")):
            found[kind + "/" + path.name] = path.read_text(encoding="utf-8")
json.dump(found, sys.stdout)
"""


def read_builtin_registry(api: docker_py.Api, image: Image) -> dict[str, str]:
    """The registry of the openai/evals in an image: YAML text by path, such as `evals/a.yaml`.

    Empty for an image without python3 or without openai/evals.
    """
    answer = ask(api, image.id, ["python3", "-c", READ_REGISTRY])
    if answer.exit_code == NO_COMMAND:
        return {}
    if answer.exit_code:
        raise EnvironmentFault(
            f"cannot read the registry inside the image {image.name}: {answer.last_line}",
            "try `evalset image build --rebuild`, or another --image",
        )
    return msgspec.json.decode(answer.stdout, type=dict[str, str])


# Prints the names of all modules that Python can find, without importing any.
READ_MODULES = """
import json, pkgutil, sys
names = {each.name for each in pkgutil.iter_modules()} | sys.stdlib_module_names
json.dump(sorted(names), sys.stdout)
"""


def modules_in(engine: Engine, image: Image, host: Host) -> list[str]:
    """The names that can be imported in an image, asked once per image; empty without Python."""
    kept = host.cache / "modules" / f"{image.id.removeprefix('sha256:')}.json"
    if (names := read_json(kept, list[str])) is not None:
        return names
    answer = ask(engine.api, image.id, ["python3", "-c", READ_MODULES])
    if answer.exit_code:
        return []
    with suppress(EnvironmentFault):  # the image is asked again next time
        replace(kept, answer.stdout)
    return msgspec.json.decode(answer.stdout, type=list[str])


def builtin_registry(engine: Engine, image: Image, host: Host) -> Registry:
    """The registry in an image, read once per image."""
    cache = RegistryCache(host.cache)
    registry = cache.get(image.id)
    if registry is None:
        texts = read_builtin_registry(engine.api, image)
        files = [
            RegistryFile(path=f"{image.name}:{path}", kind=path.partition("/")[0], text=text)
            for path, text in sorted(texts.items())
        ]
        registry = parse_registry(files, builtin=True)
        cache.put(image.id, registry)
    return registry

import re
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import docker
import msgspec
from docker.errors import APIError, ImageNotFound

import runner
from runner.errors import EnvironmentFault
from runner.execute import base, probe, wheels
from runner.execute.engine import answering
from runner.execute.pull import PullRefusedError, pull
from runner.execute.recipe import Recipe

# A name of our own making: no image registry is ever asked for it.
DEFAULT_IMAGE = "evalset/evals:3.0.1.post1"

# The classic builder says nothing while a step runs.
STEP_TIME = 1800

FINGERPRINT = "evalset.fingerprint"
BASE = "evalset.base"
BASE_NAME = "evalset.base.name"
MACHINE = "evalset.machine"
LOCK = "evalset.lock"
STAGE = "evalset.stage"

# What the classic builder says between the words of a step's own commands.
BUILDER_SAYS = ("---> ", "Removing intermediate container ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# Imports nothing of evals, which would cost a second. Direct children only, as upstream reads them.
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


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that the engine has.

    Attributes:
        id: `sha256:...`, of its configuration; two hosts that build alike have different ones.
        name: what it was looked up by.
        digest: its repository digest; None for an image that no image registry knows.
        fingerprint: of its content, as `build` labels it: the same wherever it is built alike.
        labels: all of its labels.
    """

    id: str
    name: str
    digest: str | None
    fingerprint: str | None
    labels: dict[str, str]


def find(api: docker.APIClient, name: str) -> Image:
    """Look an image up; pull it if it is missing and not of our own making.

    Raises:
        EnvironmentFault: it is not here, and cannot be pulled.
    """
    image = look(api, name)
    if image is None and name == DEFAULT_IMAGE:
        raise EnvironmentFault(f"the image {name} is not here; build it with `evalset image build`")
    if image is None:
        try:
            pull(api, name)
        except PullRefusedError as refusal:
            raise EnvironmentFault(
                f"the image {name} is not here and cannot be pulled: {refusal}; check its name, "
                "`docker login`, and the engine's network"
            ) from refusal
        image = look(api, name)
    if image is None:
        raise EnvironmentFault(f"the image {name} was pulled and is gone again; run this again")
    return image


def look(api: docker.APIClient, name: str) -> Image | None:
    """Look an image up at the engine, and nowhere else."""
    with answering():
        try:
            details: dict[str, Any] = api.inspect_image(name)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None
    labels: dict[str, str] = details["Config"].get("Labels") or {}
    digests = sorted(details.get("RepoDigests") or ())
    return Image(
        id=details["Id"],
        name=name,
        digest=digests[0] if digests else None,
        fingerprint=labels.get(FINGERPRINT),
        labels=labels,
    )


def build(
    api: docker.APIClient,
    *,
    tag: str = DEFAULT_IMAGE,
    base_image: str | None = None,
    tell: Callable[[str], None],
    rebuild: bool = False,
) -> Image:
    """Build the eval image, or return the one that is tagged when it has the same content.

    Args:
        api: a client.
        tag: the image's name.
        base_image: what to build on; without it, what the Dockerfile says, or Debian's packages.
        tell: takes one line at a time on what happens.
        rebuild: build although it is there, on a base that is fetched anew.

    Raises:
        EnvironmentFault: the base, the Python packages or the engine cannot be had, or a step
            fails.
    """
    recipe = Recipe()
    there = look(api, tag)
    if there is not None and not rebuild and _is_made_by(there, recipe, base_image):
        tell(f"image: {tag} is up to date ({there.fingerprint})")
        return there
    ground = base.prepare(
        api, wanted=base_image, default=recipe.base_image, fresh=rebuild, tell=tell
    )
    folder = wheels.fetch(recipe.lock, ground.platform, tell=tell)
    tell(f"image: building {tag} on {ground.name}, about a minute")
    began = time.monotonic()
    labels = {
        FINGERPRINT: recipe.fingerprint(ground.identity, ground.platform.machine),
        LOCK: recipe.lock_hash,
        BASE: ground.identity,
        BASE_NAME: ground.name,
        MACHINE: ground.platform.machine,
        "evalset.version.evals": recipe.evals_version,
        "evalset.version.python": ground.platform.python,
        "evalset.version.runner": runner.__version__,
    }
    with _context(recipe, folder) as content:
        _run_steps(api, content, tag=tag, base_name=ground.name, labels=labels, nocache=rebuild)
    image = look(api, tag)
    if image is None:
        raise EnvironmentFault(f"the image {tag} was built and is gone again; run this again")
    if there is not None and there.fingerprint and there.id != image.id:
        _remove_unused(api, there.id)
    tell(f"image: built {tag} in {time.monotonic() - began:.0f} s ({image.fingerprint})")
    return image


def read_builtin_registry(api: docker.APIClient, image: Image) -> dict[str, str]:
    """The registry of the openai/evals inside an image: YAML text by path, such as `evals/a.yaml`.

    Empty for an image without python3 or without openai/evals.

    Raises:
        EnvironmentFault: the engine does not do its part, or a file there cannot be read.
    """
    answer = probe.ask(api, image.id, ["python3", "-c", READ_REGISTRY])
    if answer.exit_code == probe.NO_COMMAND:
        return {}
    if answer.exit_code:
        raise EnvironmentFault(
            f"cannot read the registry inside the image {image.name}: {answer.last_line}; try "
            "`evalset image build --rebuild`, or another --image"
        )
    return msgspec.json.decode(answer.stdout, type=dict[str, str])


def _is_made_by(image: Image, recipe: Recipe, base_image: str | None) -> bool:
    labels = image.labels
    on_wanted_base = base_image is None or labels.get(BASE_NAME) == base_image
    return on_wanted_base and image.fingerprint == recipe.fingerprint(
        labels.get(BASE, ""), labels.get(MACHINE, "")
    )


@contextmanager
def _context(recipe: Recipe, folder: Path) -> Iterator[IO[bytes]]:
    """The build's input as a tar archive: the same bytes for the same content."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:

            def add(name: str, size: int, content: IO[bytes]) -> None:
                entry = tarfile.TarInfo(name)
                entry.size = size
                archive.addfile(entry, content)

            add("Dockerfile", len(recipe.dockerfile), BytesIO(recipe.dockerfile))
            add("image.lock", len(recipe.lock), BytesIO(recipe.lock))
            add("fast_yaml.py", len(recipe.fast_yaml), BytesIO(recipe.fast_yaml))
            for wheel in sorted(folder.glob("*.whl")):
                with wheel.open("rb") as content:
                    add(f"wheels/{wheel.name}", wheel.stat().st_size, content)
        file.seek(0)
        yield file


def _run_steps(
    api: docker.APIClient,
    content: IO[bytes],
    *,
    tag: str,
    base_name: str,
    labels: dict[str, str],
    nocache: bool,
) -> None:
    step = "start"
    said: deque[str] = deque(maxlen=8)
    with answering():
        try:
            for line in api.build(
                fileobj=content,
                custom_context=True,
                tag=tag,
                buildargs={"BASE_IMAGE": base_name},
                labels=labels,
                network_mode="none",
                nocache=nocache,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=STEP_TIME,
            ):
                text = COLOUR.sub("", str(line.get("stream", ""))).strip()
                if text.startswith("Step "):
                    step = text
                    said.clear()
                elif text and not text.startswith(BUILDER_SAYS):
                    said.extend(text.splitlines())
                if "error" in line:
                    why = " | ".join(said) or " ".join(str(line["error"]).split())
                    raise EnvironmentFault(
                        f"the image {tag} could not be built: {step[:60]}...: {why}; "
                        "put that right, and `evalset image build` again"
                    )
        finally:
            _remove_stages(api)


def _remove_stages(api: docker.APIClient) -> None:
    """Give the disk back what the first stage took; a build that runs beside us keeps its own."""
    for stage in api.images(filters={"dangling": True, "label": STAGE}):
        _remove_unused(api, stage["Id"])


def _remove_unused(api: docker.APIClient, image_id: str) -> None:
    # The engine refuses what a container, another image or another name still needs.
    with answering(), suppress(APIError):
        api.remove_image(image_id)

import hashlib
import json
import re
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO

import runner
from runner.engine import docker_py
from runner.engine.engine import as_environment_fault
from runner.errors import EnvironmentFault
from runner.image.base import Base, base_of_ours, prepare_base
from runner.image.image import (
    BASE,
    FINGERPRINT,
    Image,
    find_image,
    look_up_image,
    own_fingerprint,
    require_image,
)
from runner.image.pip import fetch_wheels
from runner.options import DEFAULT_IMAGE, EXTRAS, extra_image

HERE = Path(__file__).parent

# The programs that run in the image: when Python starts, and once, while it is built.
PROGRAMS = ("hook.py", "patches.py", "prepare.py", "put_off.py")


class Recipe:
    """What an image is made from, in addition to its base: files of this package.

    The locks are in pip's requirements format, with hashes; the programs run in the image.
    `machine_locks` have what has a wheel for one architecture alone. Of the wheels in `data_lock`
    the image has no code, only data (prepare.py).

    Args:
        extra: one of the `EXTRAS`, which are built on the eval image; None is the eval image.
    """

    def __init__(self, extra: str | None = None) -> None:
        self.extra = extra
        self.dockerfile = _read(f"{extra}.dockerfile" if extra else "Dockerfile")
        self.lock = _read(f"{extra}.lock" if extra else "image.lock")
        self.machine_locks = {"x86_64": _read("ml.x86_64.lock")} if extra == "ml" else {}
        self.data_lock = b"" if extra else _read("data.lock")
        programs = () if extra else PROGRAMS
        self.programs = {f"runner/image/{name}": _read(name) for name in programs}

    @cached_property
    def base_image(self) -> str:
        """The image that the Dockerfile builds on by default."""
        found = re.search(rb"^ARG BASE_IMAGE=(\S+)$", self.dockerfile, re.MULTILINE)
        if found is None:
            raise EnvironmentFault(
                "the Dockerfile has no line `ARG BASE_IMAGE=...`",
                "put it back, or reinstall evalset",
            )
        return found[1].decode()

    @cached_property
    def lock_hash(self) -> str:
        """SHA-256 of the lock."""
        return hashlib.sha256(self.lock).hexdigest()

    @cached_property
    def evals_version(self) -> str:
        """The version of openai/evals in the lock."""
        lock = _read("image.lock") if self.extra else self.lock
        found = re.search(rb"^evals==(\S+)", lock, re.MULTILINE)
        return found[1].decode() if found else "unknown"

    def lock_for(self, machine: str) -> bytes:
        """The lock of what is installed on an architecture, such as `x86_64`."""
        return self.lock + self.machine_locks.get(machine, b"")

    def fingerprint(self, base: str, machine: str) -> str:
        """A hash of the image's content, the same on every host that builds it from the same.

        `base` is the base image's identity, `machine` an architecture, such as `x86_64`.
        """
        parts = [
            self.dockerfile,
            self.lock_for(machine),
            self.data_lock,
            *self.programs.values(),
        ]
        hashes = [hashlib.sha256(part).hexdigest() for part in parts]
        return hashlib.sha256(json.dumps([*hashes, base, machine]).encode()).hexdigest()


def _read(name: str) -> bytes:
    # The Dockerfile is at the top of a checkout, and next to this file in an installed wheel.
    for path in (HERE / name, HERE.parents[1] / name):
        if path.is_file():
            return path.read_bytes()
    raise EnvironmentFault(f"{HERE / name} is missing", "reinstall evalset")


# The classic builder prints nothing while a step runs.
STEP_TIME = 1800

# Labels.
BASE_NAME = "evalset.base.name"
MACHINE = "evalset.machine"
LOCK = "evalset.lock"
STAGE = "evalset.stage"

# What the classic builder prints between the output of commands.
BUILDER_SAYS = ("---> ", "Removing intermediate container ")

# How it prints the image that a step made, by the first digits of its id.
SHORT = 12
BUILT = re.compile(rf"---> ([0-9a-f]{{{SHORT}}})$")

# Seconds after which no build that is under way can have left a stage.
ABANDONED = 2 * STEP_TIME

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def build_image(
    api: docker_py.Api,
    *,
    tag: str = DEFAULT_IMAGE,
    base_image: str | None = None,
    tell: Callable[[str], None],
    rebuild: bool = False,
) -> Image:
    """Build the eval image, or return the one with the tag if it has the same content.

    Without `base_image` it is built on the image that the Dockerfile names, or on one made from
    Debian's packages. With `rebuild` it is built in any case, on a base that is fetched again.

    Raises:
        EnvironmentFault: base or Python packages cannot be fetched, or a step or the engine fails.
    """
    recipe = Recipe()
    there = look_up_image(api, tag)
    if there is not None and not rebuild and _is_made_by(there, recipe, base_image):
        tell(f"image: {tag} is up to date ({there.fingerprint})")
        return there
    ground = prepare_base(
        api, wanted=base_image, default=recipe.base_image, fresh=rebuild, tell=tell
    )
    return _build(api, recipe, ground, tag=tag, tell=tell, rebuild=rebuild)


def build_extra(
    api: docker_py.Api,
    extra: str,
    *,
    eval_image: str = DEFAULT_IMAGE,
    tell: Callable[[str], None],
    rebuild: bool = False,
) -> Image:
    """Build one of the `EXTRAS` on the eval image, or return the one that has the same content.

    Raises:
        EnvironmentFault: there is no eval image, Python packages cannot be fetched, or a step or
            the engine fails.
    """
    tag = extra_image(extra, eval_image)
    recipe = Recipe(extra)
    ground = base_of_ours(api, find_image(api, eval_image))
    fingerprint = recipe.fingerprint(ground.identity, ground.platform.machine)
    there = look_up_image(api, tag)
    if there is not None and not rebuild and there.fingerprint == fingerprint:
        tell(f"image: {tag} is up to date ({fingerprint})")
        return there
    return _build(api, recipe, ground, tag=tag, tell=tell, rebuild=rebuild)


def _build(
    api: docker_py.Api,
    recipe: Recipe,
    ground: Base,
    *,
    tag: str,
    tell: Callable[[str], None],
    rebuild: bool,
) -> Image:
    there = look_up_image(api, tag)
    lock = recipe.lock_for(ground.platform.machine)
    folder = fetch_wheels(lock + recipe.data_lock, ground.platform, tell=tell)
    tell(f"image: building {tag} on {ground.name}, some minutes")
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
    with _context(recipe, lock, folder) as content:
        run_steps(api, content, tag=tag, base_name=ground.name, labels=labels, nocache=rebuild)
    image = require_image(api, tag, "built")
    if there is not None and there.fingerprint and there.id != image.id:
        remove_image(api, there.id)
    tell(f"image: built {tag} in {time.monotonic() - began:.0f} s ({image.fingerprint})")
    return image


def kind_of(api: docker_py.Api, image: Image) -> str | None:
    """Which image of ours it is: empty for the eval image, or one of the `EXTRAS`.

    None for any other image, for one that was built on top of ours, and for another release's.
    """
    if own_fingerprint(api, image) is None:
        return None
    locks = {Recipe(extra).lock_hash: extra for extra in EXTRAS} | {Recipe().lock_hash: ""}
    return locks.get(image.labels.get(LOCK, ""))


def _is_made_by(image: Image, recipe: Recipe, base_image: str | None) -> bool:
    labels = image.labels
    on_wanted_base = base_image is None or labels.get(BASE_NAME) == base_image
    return on_wanted_base and image.fingerprint == recipe.fingerprint(
        labels.get(BASE, ""), labels.get(MACHINE, "")
    )


@contextmanager
def _context(recipe: Recipe, lock: bytes, folder: Path) -> Iterator[IO[bytes]]:
    recipes = {"Dockerfile": recipe.dockerfile, "image.lock": lock, **recipe.programs}
    wheels = ((f"wheels/{it.name}", it.read_bytes()) for it in sorted(folder.glob("*.whl")))
    with build_context(chain(recipes.items(), wheels)) as content:
        yield content


@contextmanager
def build_context(files: Iterable[tuple[str, bytes]]) -> Iterator[IO[bytes]]:
    """The input of a build as a tar archive: the same bytes for the same names and contents."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, content in files:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, BytesIO(content))
        file.seek(0)
        yield file


def run_steps(
    api: docker_py.Api,
    content: IO[bytes],
    *,
    tag: str,
    base_name: str,
    labels: dict[str, str],
    nocache: bool,
) -> None:
    """Build an image from a tar archive, without a network, and remove intermediate stages.

    Raises:
        EnvironmentFault: a step fails, or the engine does.
    """
    step = "start"
    own: set[str] = set()
    said: deque[str] = deque(maxlen=8)
    with as_environment_fault():
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
                own.update(BUILT.findall(text))
                if text.startswith("Step "):
                    step = text
                    said.clear()
                elif text and not text.startswith(BUILDER_SAYS):
                    said.extend(text.splitlines())
                if "error" in line:
                    why = " | ".join(said) or " ".join(str(line["error"]).split())
                    raise EnvironmentFault(
                        f"the image {tag} could not be built: {step[:60]}...: {why}",
                        "fix that, then run this again",
                    )
        finally:
            # Frees the disk that the first stage took, in this build or in one that was killed.
            for stage in api.images(filters={"dangling": True, "label": STAGE}):
                short = stage["Id"].removeprefix("sha256:")[:SHORT]
                if short in own or time.time() - stage["Created"] > ABANDONED:
                    remove_image(api, stage["Id"])


def remove_image(api: docker_py.Api, image_id: str) -> bool:
    """Remove an image; return whether it is gone.

    The engine keeps an image that a container, another image or another name still needs.
    """
    with as_environment_fault(), suppress(docker_py.APIError):
        api.remove_image(image_id)
        return True
    return False

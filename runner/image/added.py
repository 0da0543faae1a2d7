import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import msgspec

from runner.engine import docker_py
from runner.engine.engine import as_environment_fault
from runner.files import make_folder, named, replace, take_lock
from runner.host import Host
from runner.image.build import BASE_NAME, LOCK, Recipe, build_context, remove_image, run_steps
from runner.image.image import (
    BASE,
    FINGERPRINT,
    Image,
    look_up_image,
    own_fingerprint,
    require_image,
)
from runner.image.pip import fetch_wheels, ground_of, resolve
from runner.image.requirements import Lock, Requirements
from runner.model import key_of

# The label by which these images are found, and the repository in their names.
ADDED = "evalset.added"
NAME = "evalset/added"

DOCKERFILE = Path(__file__).with_name("added.dockerfile")


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """Requirements, and the image that their packages are added to.

    Attributes:
        image: the image.
        identity: of the image, the same on all hosts that have built or pulled the same one.
        asked: the requirements.
    """

    image: Image
    identity: str
    asked: Requirements

    @classmethod
    def to(cls, api: docker_py.Api, image: Image, asked: Requirements) -> "Added":
        """Requirements for an image that the engine has."""
        digest = (image.digest or "").partition("@")[2]
        identity = own_fingerprint(api, image) or digest or image.id
        return cls(image=image, identity=identity, asked=asked)

    @property
    def key(self) -> str:
        """A key for image and requirements, whatever packages are chosen."""
        return key_of([self.identity, self.asked.content])


def lock_of(
    api: docker_py.Api,
    added: Added,
    recorded: Mapping[str, str],
    host: Host,
    *,
    tell: Callable[[str], None],
) -> Lock:
    """The packages that fulfil requirements: those on record, else those in this host's cache.

    If neither has any, pip chooses them, and the cache keeps its choice.

    Args:
        api: of the engine.
        added: requirements and image.
        recorded: texts of the locks on record, by their keys.
        host: this one.
        tell: what is done.

    Raises:
        UsageError: the requirements cannot be fulfilled.
        EnvironmentFault: the engine or a package index does not do its part.
    """
    if added.key in recorded:
        return Lock(key=added.key, text=recorded[added.key])
    with _alone(host, added.key) as folder:
        kept = folder / "lock"
        if kept.is_file():
            return Lock(key=added.key, text=kept.read_text())
        text = resolve(added.asked, ground_of(api, added.image), tell=tell)
        replace(kept, text.encode())
        return Lock(key=added.key, text=text)


def image_with(
    api: docker_py.Api, added: Added, lock: Lock, host: Host, *, tell: Callable[[str], None]
) -> Image:
    """The image with the packages of a lock; it is built if the engine does not have it.

    Raises:
        EnvironmentFault: the engine or a package index does not do its part, or a step fails.
    """
    if not lock.text:
        return added.image
    fingerprint = _fingerprint(added, lock)
    _hold(host, fingerprint)
    with _alone(host, added.key):
        if there := look_up_image_with(api, added, lock):
            return there
        tag = f"{NAME}:{fingerprint}"
        _build(api, added, lock, fingerprint, tag, tell=tell)
    return require_image(api, tag, "built")


def look_up_image_with(api: docker_py.Api, added: Added, lock: Lock) -> Image | None:
    """The image with the packages of a lock; None if it has to be built.

    Raises:
        EnvironmentFault: the engine does not do its part.
    """
    if not lock.text:
        return added.image
    fingerprint = _fingerprint(added, lock)
    there = look_up_image(api, f"{NAME}:{fingerprint}")
    return there if there is not None and there.labels.get(ADDED) == fingerprint else None


def _fingerprint(added: Added, lock: Lock) -> str:
    return key_of([added.identity, lock.text, DOCKERFILE.read_text()])


def _build(
    api: docker_py.Api,
    added: Added,
    lock: Lock,
    fingerprint: str,
    tag: str,
    *,
    tell: Callable[[str], None],
) -> None:
    ground = ground_of(api, added.image)
    recipe = Recipe()
    wheels = fetch_wheels(
        lock.text.encode(), ground.platform, tell=tell, asked=_asked(added.asked, lock)
    )
    pip = re.search(rb"^pip==(?:.*\\\n)*.*\n", recipe.lock, re.MULTILINE)
    assert pip is not None  # noqa: S101 - a test builds the eval image with it
    tool = fetch_wheels(pip[0], ground.platform, tell=lambda _: None)
    count = lock.text.count("\n")
    what = "a package" if count == 1 else f"{count} packages"
    tell(f"image: adding {what} of {added.asked.file} to {added.image.name}")
    began = time.monotonic()
    labels = {
        ADDED: fingerprint,
        FINGERPRINT: fingerprint,
        LOCK: hashlib.sha256(lock.text.encode()).hexdigest(),
        BASE: added.identity,
        BASE_NAME: added.image.name,
    }
    with build_context(_files(lock, wheels, tool)) as content:
        run_steps(api, content, tag=tag, base_name=added.image.id, labels=labels, nocache=False)
    tell(f"image: built {tag} in {time.monotonic() - began:.0f} s")


def _asked(asked: Requirements, lock: Lock) -> bytes:
    """A lock in the form for pip, with the places of packages, which are not on record."""
    lines = list(asked.where)
    for line in lock.text.splitlines():
        package, _, digest = line.partition(" ")
        name = package.partition("==")[0]
        wheel = asked.wheels.get(name)
        if wheel and "://" not in wheel:
            wheel = Path(wheel).as_uri()
        lines.append(f"{name} @ {wheel} {digest}" if wheel else line)
    return "\n".join([*lines, ""]).encode()


def _files(lock: Lock, wheels: Path, tool: Path) -> Iterator[tuple[str, bytes]]:
    """What a build gets, by name: the Dockerfile, the lock, its wheels, and pip itself."""
    yield "Dockerfile", DOCKERFILE.read_bytes()
    yield "packages/lock", lock.text.encode()
    for place, folder in ("pip", tool), ("wheels", wheels):
        for path in sorted(folder.glob("*.whl")):
            yield f"packages/{place}/{path.name}", path.read_bytes()


# Held until this process ends, in whatever way.
_held: set[Path] = set()


def _hold(host: Host, fingerprint: str) -> None:
    """Keep an image from being cleaned for as long as this process runs."""
    path = host.cache / "added" / fingerprint
    make_folder(path.parent, option="XDG_CACHE_HOME")
    if path not in _held:
        with named(path, "lock"):
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
            take_lock(descriptor, shared=True, patience=math.inf)
            _held.add(path)


@contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Whether nobody holds a file's lock; if so, nobody can take it in the `with` block."""
    with path.open("ab") if path.is_file() else nullcontext() as file:
        yield file is None or take_lock(file)


@contextmanager
def _alone(host: Host, key: str) -> Iterator[Path]:
    """The folder of the cache for some requirements, for one process at a time."""
    folder = host.cache / "requirements" / key
    make_folder(folder, option="XDG_CACHE_HOME")
    with named(folder, "lock"), (folder / "busy").open("ab") as file:
        take_lock(file, patience=math.inf)
        yield folder


class RemovedImages(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed.

    Attributes:
        removed: names of images.
        used: names of images that a run or a container still uses.
        locks: how many choices of packages this host's cache had.
    """

    removed: tuple[str, ...]
    used: tuple[str, ...]
    locks: int


def clean_images(api: docker_py.Api, host: Host) -> RemovedImages:
    """Remove the images with added packages, unless a run or a container uses them.

    The choices of packages are removed as well, so that the next run chooses again, and the wheels.
    """
    removed: list[str] = []
    used: list[str] = []
    with as_environment_fault():
        listed = api.images(filters={"label": ADDED})
    for about in listed:
        name = (about["RepoTags"] or [about["Id"]])[0]
        with _unused(host.cache / "added" / about["Labels"][ADDED]) as is_unused:
            gone = is_unused and remove_image(api, about["Id"])
        (removed if gone else used).append(name)
    return RemovedImages(removed=tuple(removed), used=tuple(used), locks=_forget(host))


def _forget(host: Host) -> int:
    count = 0
    for folder in sorted((host.cache / "requirements").glob("*/")):
        with _unused(folder / "busy") as is_unused:  # else a run is choosing or building
            kept = folder / "lock"
            if is_unused and kept.is_file():
                digest = hashlib.sha256(kept.read_bytes()).hexdigest()
                for wheels in (host.cache / "wheels").glob(f"{digest[:16]}-*"):
                    shutil.rmtree(wheels, ignore_errors=True)
                kept.unlink()
                count += 1
    return count

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path

from runner.errors import EnvironmentFault

HERE = Path(__file__).parent


class Recipe:
    """What the eval image is made from, apart from its base: the files of this package.

    Attributes:
        dockerfile: how it is built.
        lock: the Python packages in it, in pip's requirements format, with hashes.
        image_hook: a module that goes into its site-packages.
    """

    def __init__(self) -> None:
        self.dockerfile = _read("Dockerfile")
        self.lock = _read("image.lock")
        self.image_hook = _read("image_hook.py")

    @cached_property
    def base_image(self) -> str:
        """The image that the Dockerfile builds on unless told otherwise."""
        found = re.search(rb"^ARG BASE_IMAGE=(\S+)$", self.dockerfile, re.MULTILINE)
        if found is None:
            raise EnvironmentFault(
                "the Dockerfile has no line `ARG BASE_IMAGE=...`; put it back, or reinstall evalset"
            )
        return found[1].decode()

    @cached_property
    def lock_hash(self) -> str:
        """SHA-256 of the lock."""
        return hashlib.sha256(self.lock).hexdigest()

    @cached_property
    def evals_version(self) -> str:
        """The version of openai/evals that is locked."""
        found = re.search(rb"^evals==(\S+)", self.lock, re.MULTILINE)
        return found[1].decode() if found else "unknown"

    def fingerprint(self, base: str, machine: str) -> str:
        """Stand for the image's content: the same on every host that builds it alike.

        Args:
            base: the identity of the base image.
            machine: the architecture, such as `x86_64`.
        """
        parts = [self.dockerfile, self.lock, self.image_hook]
        hashes = [hashlib.sha256(part).hexdigest() for part in parts]
        return hashlib.sha256(json.dumps([*hashes, base, machine]).encode()).hexdigest()


def _read(name: str) -> bytes:
    # The Dockerfile is at the top of a checkout, and beside this file in an installed wheel.
    for path in (HERE / name, HERE.parents[1] / name):
        if path.is_file():
            return path.read_bytes()
    raise EnvironmentFault(f"{HERE / name} is missing; reinstall evalset")

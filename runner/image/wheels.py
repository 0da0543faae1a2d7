import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault
from runner.host import this_host

# The minor version of the oldest glibc that wheels are made for.
OLDEST_GLIBC = 5

LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """The Python, machine and glibc of an image, which decide which wheels it can use.

    Attributes:
        python: such as `3.11`.
        machine: such as `x86_64`.
        glibc: the minor version of its glibc 2: 36 in Debian 12.
    """

    python: str
    machine: str
    glibc: int

    @property
    def tags(self) -> list[str]:
        """The platform tags that pip may choose from, best first.

        pip takes `--platform` literally: it finds a wheel for an older glibc only if that is named.
        """
        tags = []
        for minor in range(self.glibc, OLDEST_GLIBC - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in LEGACY_TAGS:
                tags.append(f"{LEGACY_TAGS[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    def __str__(self) -> str:
        """Its name, for folders and messages."""
        return f"cp{self.python.replace('.', '')}-{self.machine}-glibc2.{self.glibc}"


def fetch_wheels(
    lock: bytes, platform: Platform, *, tell: Callable[[str], None], asked: bytes | None = None
) -> Path:
    """A folder with exactly the lock's wheels for the platform.

    The host's own pip fetches them, with its settings and certificates. The folder stays in the
    user's cache directory, so that this happens once.

    Args:
        lock: the packages that the folder is to have.
        platform: what they have to run on.
        tell: what is done.
        asked: the same in the form for pip, with the places of packages; None for the lock itself.

    Raises:
        EnvironmentFault: there is no pip, or it cannot get them.
    """
    name = f"{hashlib.sha256(lock).hexdigest()[:16]}-{platform}"
    folder = this_host().cache / "wheels" / name
    if _is_whole(folder, lock):
        tell(f"Python packages: the wheels in {folder}")
        return folder
    count = lock.count(b"==")
    what = "a wheel" if count == 1 else f"{count} wheels"
    tell(f"Python packages: fetching {what} with pip into {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as fresh:
            _download(asked or lock, platform, Path(fresh))
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(fresh, folder, copy_function=os.link)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot keep wheels in {folder}: {error.strerror or error}",
            "make room there, or point XDG_CACHE_HOME elsewhere",
        ) from error
    return folder


def _is_whole(folder: Path, lock: bytes) -> bool:
    """Whether each wheel in the folder has a hash of the lock, and each package has its wheel."""
    wheels = sorted(folder.glob("*.whl"))
    hashes = set(re.findall(rb"--hash=sha256:([0-9a-f]{64})", lock))
    return len(wheels) == lock.count(b"==") and all(
        hashlib.sha256(wheel.read_bytes()).hexdigest().encode() in hashes for wheel in wheels
    )


def _download(lock: bytes, platform: Platform, folder: Path) -> None:
    requirements = folder / "image.lock"
    requirements.write_bytes(lock)
    command = [
        *pip(),
        *("download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--only-binary=:all:"),
        *platform_options(platform),
        *("--requirement", str(requirements), "--dest", str(folder)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    requirements.unlink()
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = (errors or done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvironmentFault(
            f"pip could not fetch the image's Python packages ({platform}): "
            f"{said.removeprefix('ERROR: ')}",
            "check the network and pip's settings (`pip config list`)",
        )


def platform_options(platform: Platform) -> list[str]:
    """The options that tell pip which wheels it may choose from."""
    return [
        *("--implementation", "cp", "--python-version", platform.python),
        *(word for tag in platform.tags for word in ("--platform", tag)),
    ]


def pip() -> list[str]:
    """The host's pip, as a command.

    Raises:
        EnvironmentFault: there is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip]
    # An environment that uv made has no pip, and perhaps the host has none; uv can bring one.
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    raise EnvironmentFault(
        "no pip to fetch the image's Python packages with",
        f"install one (`{sys.executable} -m ensurepip`, or Debian's python3-pip)",
    )

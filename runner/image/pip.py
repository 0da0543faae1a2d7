import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.engine import docker_py
from runner.engine.image_probe import ask
from runner.errors import EnvironmentFault, RunnerError, UsageError
from runner.host import this_host
from runner.image.image import Image
from runner.image.requirements import Requirements, canonical

# The minor version of the oldest glibc that wheels are made for.
OLDEST_GLIBC = 5

LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

QUESTIONS = """
import importlib.metadata, json, platform
print(json.dumps({
    "python": platform.python_version(),
    "machine": platform.machine(),
    "libc": platform.libc_ver(),
    "packages": {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()
                 if each.metadata["Name"]},
}))
"""

# pip evaluates markers such as `; python_version < "3.12"` for the Python that runs it.
FOR_THE_IMAGE = """
import runpy, sys
from pip._vendor.packaging import markers
known = markers.default_environment
markers.default_environment = lambda: {{**known(), **{markers!r}}}
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__")
"""

# What pip prints where a disk is full.
FULL = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\]")

# What pip prints before the packages of a conflict, and about constraints that it was given.
CONFLICT = "conflict is caused by:"
REQUESTED = "The user requested"


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

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Platform | None":
        """By what `platform` says there; None if there is no glibc."""
        kind, version = said["libc"]
        if kind != "glibc":
            return None
        python = ".".join(said["python"].split(".")[:2])
        return cls(python=python, machine=said["machine"], glibc=int(version.split(".")[1]))

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
    if done.returncode and FULL.search(done.stderr):
        raise EnvironmentFault(
            f"pip could not fetch the image's Python packages ({platform}): the disk of "
            f"{folder.parent} or of {tempfile.gettempdir()} is full",
            "make room there, or point XDG_CACHE_HOME or TMPDIR elsewhere",
        )
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


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What is in an image that packages are to be added to.

    Attributes:
        python: its version in full.
        packages: versions by canonical name.
    """

    python: str
    platform: Platform
    packages: dict[str, str]


def ground_of(api: docker_py.Api, image: Image) -> Ground:
    """Ask an image.

    Raises:
        EnvironmentFault: it has no Python, or one for which there are no wheels.
    """
    answer = ask(api, image.id, ["python3", "-c", QUESTIONS])
    if answer.exit_code:
        raise EnvironmentFault(
            f"no packages can be added to the image {image.name}: it has no working python3 "
            f"({answer.last_line})",
            "leave --requirements out, or choose another --image",
        )
    found = json.loads(answer.stdout)
    platform = Platform.of(found)
    if platform is None:
        raise EnvironmentFault(
            f"no packages can be added to the image {image.name}: it has no glibc, and many "
            "wheels need it",
            "choose a Debian-based --image",
        )
    return Ground(
        python=found["python"],
        platform=platform,
        packages={canonical(name): version for name, version in found["packages"].items()},
    )


def resolve(asked: Requirements, ground: Ground, *, tell: Callable[[str], None]) -> str:
    """The text of a lock: the wheels that requirements add, and nothing that the image has.

    The host's own pip chooses them, and runs none of their code.

    Raises:
        UsageError: no choice is possible; the message has pip's own words.
        EnvironmentFault: pip cannot reach what it needs.
    """
    tell(f"requirements: choosing packages for {asked.file} with pip")
    try:
        with tempfile.TemporaryDirectory(prefix="evalset-") as place:
            chosen = _chosen(asked, ground, Path(place))
    except OSError as error:
        raise _no_room(asked, error.strerror or str(error)) from error
    return _lock(asked, ground, chosen)


def _chosen(asked: Requirements, ground: Ground, folder: Path) -> list[dict[str, Any]]:
    """What pip's report says of each package; the folder is for its files."""
    report = folder / "report.json"
    (folder / "asked.txt").write_text("\n".join([*asked.where, *asked.lines, ""]))
    pinned = [f"{name}=={version}" for name, version in ground.packages.items()]
    (folder / "known.txt").write_text("\n".join([*asked.constraints, *pinned, ""]))
    command = [
        *_pip(ground),
        *("install", "--dry-run", "--ignore-installed", "--no-input"),
        *("--disable-pip-version-check", "--only-binary=:all:"),
        *platform_options(ground.platform),
        *("--target", str(folder / "target"), "--report", str(report)),
        *("--requirement", str(folder / "asked.txt")),
        *("--constraint", str(folder / "known.txt")),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise _failure(asked, ground, done.stdout)
    found: list[dict[str, Any]] = json.loads(report.read_bytes())["install"]
    return found


def _no_room(asked: Requirements, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"pip cannot choose packages for {asked.file} in {tempfile.gettempdir()}: {why}",
        "make room there, or point TMPDIR elsewhere",
    )


def _pip(ground: Ground) -> list[str]:
    command = pip()
    if command[1:] != ["-m", "pip"]:
        return command
    markers = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": ground.platform.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": ground.python,
        "python_version": ground.platform.python,
        "sys_platform": "linux",
    }
    return [sys.executable, "-c", FOR_THE_IMAGE.format(markers=markers)]


def _lock(asked: Requirements, ground: Ground, chosen: Iterable[dict[str, Any]]) -> str:
    lines = []
    for each in chosen:
        name, version = canonical(each["metadata"]["name"]), each["metadata"]["version"]
        if ground.packages.get(name) == version:
            continue
        about = each["download_info"].get("archive_info", {})
        digest = about.get("hashes", {}).get("sha256") or about.get("hash", "").partition("=")[2]
        if name in asked.hashes and digest not in asked.hashes[name]:
            raise UsageError(
                f"{asked.file}: the wheel of {name} {version} has none of the hashes that are "
                "given there",
                "correct them",
            )
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(sorted(lines))


def _failure(asked: Requirements, ground: Ground, said: str) -> RunnerError:
    """What pip said, on one line that says what to do."""
    why = _last_words(said)
    if FULL.search(said):
        return _no_room(asked, os.strerror(errno.ENOSPC))
    if "Retrying (" in said:
        return EnvironmentFault(
            f"pip reached no package index for {asked.file}: {why}",
            "check the network and pip's settings (`pip config list`)",
        )
    name = re.search(r"No matching distribution found for ([A-Za-z0-9._-]*[A-Za-z0-9])", said)
    if name and "(from versions: none)" in said and _has_source(asked, name[1]):
        return UsageError(
            f"{asked.file}: {name[1]} has no wheel for the image ({ground.platform}), only source "
            "code, which needs a compiler",
            f"build a wheel of it where there is one (`pip wheel {name[1]}`), and name that file "
            "there",
        )
    return UsageError(f"{asked.file}: pip cannot fulfil it: {why}", "change the file")


def _has_source(asked: Requirements, name: str) -> bool:
    """Whether an index has a package's source code; it is neither fetched nor run."""
    where = [word for line in asked.where for word in line.split(" ", 1)]
    where = [word for word in where if word not in {"--prefer-binary", "--pre"}]
    command = [*pip(), "index", "versions", "--disable-pip-version-check", name, *where]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _last_words(said: str) -> str:
    """The line of pip's output that says what is wrong; for a conflict, the packages in it."""
    if CONFLICT in said:
        block = said.partition(CONFLICT)[2].strip("\n").partition("\n\n")[0]
        parts = [
            line.strip()
            .replace(f"{REQUESTED} (constraint) ", "the image has ")
            .replace(f"{REQUESTED} ", "it asks for ")
            for line in block.splitlines()
        ]
        return ", ".join(parts)
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    lines: Sequence[str] = errors or said.strip().splitlines() or ["it said nothing"]
    line = lines[-1].removeprefix("ERROR: ")
    return re.sub(r" \(from .*$", "", line)

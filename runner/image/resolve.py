import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.engine import docker_py
from runner.engine.image_probe import ask
from runner.errors import EnvironmentFault, RunnerError, UsageError
from runner.image.image import Image
from runner.image.requirements import Requirements, canonical
from runner.image.wheels import Platform, pip, platform_options

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

# What pip prints before the packages of a conflict, and about constraints that it was given.
CONFLICT = "conflict is caused by:"
REQUESTED = "The user requested"


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
    kind, version = found["libc"]
    if kind != "glibc":
        raise EnvironmentFault(
            f"no packages can be added to the image {image.name}: it has no glibc, and many "
            "wheels need it",
            "choose a Debian-based --image",
        )
    return Ground(
        python=found["python"],
        platform=Platform(
            python=".".join(found["python"].split(".")[:2]),
            machine=found["machine"],
            glibc=int(version.split(".")[1]),
        ),
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
    with tempfile.TemporaryDirectory(prefix="evalset-") as place:
        folder = Path(place)
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
        found = json.loads(report.read_bytes())
    return _lock(asked, ground, found["install"])


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

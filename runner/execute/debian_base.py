import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import docker

from runner.errors import EnvironmentFault
from runner.execute.engine import answering
from runner.record.passing import passing_folder

SUITE = "bookworm"
# Its list of Debian packages says all about it.
DEBIAN_BASE = f"evalset/base:{SUITE}"

MIRROR = "http://deb.debian.org/debian"
ARCHITECTURES: Mapping[str, str] = {"arm": "armhf", "386": "i386"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Debian 12's release: files that packages do not date get this one, the same on every host.
RELEASE_TIME = "1686355200"


def make(api: docker.APIClient, *, tell: Callable[[str], None]) -> None:
    """Make the base image from Debian's packages, with no image registry, and tag it.

    Raises:
        EnvironmentFault: mmdebstrap is missing and may not be installed, or it fails.
    """
    _need_mmdebstrap(tell)
    mirror = _mirror()
    tell(f"base image: making {DEBIAN_BASE} from Debian's packages at {mirror}, half a minute")
    with passing_folder("base") as folder:
        archive = folder / "base.tar"
        with answering():
            architecture = api.version()["Arch"]
        _bootstrap(archive, ARCHITECTURES.get(architecture, architecture), mirror)
        name, _, tag = DEBIAN_BASE.partition(":")
        with answering(), archive.open("rb") as content:
            api.import_image_from_data(
                content,
                repository=name,
                tag=tag,
                changes=[f"ENV PATH={PATH}"],
            )


def _bootstrap(archive: Path, architecture: str, mirror: str) -> None:
    left_out = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,ca-certificates"),
        f"--architectures={architecture}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in left_out),
        *(f"--aptopt={line}" for line in _proxies()),
        *(SUITE, str(archive)),
        f"deb {mirror} {SUITE} main",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": RELEASE_TIME},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err:"))]
        said = (lines or done.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise EnvironmentFault(
            f"mmdebstrap could not make a base image from {mirror}: {said}; check that `apt-get "
            "update` works here, or give a base that the engine has with --base-image"
        )


def _need_mmdebstrap(tell: Callable[[str], None]) -> None:
    if shutil.which("mmdebstrap"):
        return
    if shutil.which("apt-get"):
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if not as_root or (shutil.which("sudo") and _succeeds([*as_root, "true"])):
            tell("base image: installing mmdebstrap from the distribution's packages")
            packages = ["mmdebstrap", "debian-archive-keyring"]
            apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
            install = [*apt, "install", "-y", "--no-install-recommends", *packages]
            if _succeeds(install) or (_succeeds([*apt, "update"]) and _succeeds(install)):
                return
    raise EnvironmentFault(
        "no image registry can be reached, and there is no mmdebstrap to make a base image without "
        "one; install it (Debian, Ubuntu: apt-get install mmdebstrap), or `docker load` a base "
        "image and name it with --base-image"
    )


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _mirror() -> str:
    """The mirror that this host's apt takes Debian from, else Debian's own."""
    targets = _output(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(ORIGIN) $(LABEL)",
            "Created-By: Packages",
        ]
    )
    for line in targets.splitlines():
        uri, _, origin = line.partition(" ")
        if origin.strip() == "Debian Debian" and uri.startswith(("http:", "https:")):
            return uri.rstrip("/")
    return MIRROR


def _proxies() -> list[str]:
    """The host's apt settings without which its mirror may not be reached."""
    said = _output(["apt-config", "dump"])
    return re.findall(
        r"^Acquire::https?::(?:Proxy|CaInfo|Verify-Peer)\b.* \".+\";$", said, re.MULTILINE
    )


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from runner.engine import docker_py
from runner.engine.engine import as_environment_fault
from runner.engine.image_probe import ask
from runner.errors import EnvironmentFault
from runner.image.image import Image, look_up_image, pull, require_image
from runner.image.pip import Platform
from runner.records.folders import temporary_folder

SUITE = "bookworm"

# Its list of Debian packages identifies it.
DEBIAN_BASE = f"evalset/base:{SUITE}"

MIRROR = "http://deb.debian.org/debian"
ARCHITECTURES: Mapping[str, str] = {"arm": "armhf", "386": "i386"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The date of Debian 12's release: files to which no package gives a date get it, on every host.
RELEASE_TIME = "1686355200"


def make_debian_base(api: docker_py.Api, *, tell: Callable[[str], None]) -> None:
    """Make the base image from Debian's packages, with no image registry, and tag it."""
    _need_mmdebstrap(tell)
    mirror = _mirror()
    tell(f"base image: making {DEBIAN_BASE} from Debian's packages at {mirror}, half a minute")
    with temporary_folder("base") as folder:
        archive = folder / "base.tar"
        with as_environment_fault():
            architecture = api.version()["Arch"]
        _bootstrap(archive, ARCHITECTURES.get(architecture, architecture), mirror)
        name, _, tag = DEBIAN_BASE.partition(":")
        with as_environment_fault(), archive.open("rb") as content:
            api.import_image_from_data(
                content,
                repository=name,
                tag=tag,
                changes=[f"ENV PATH={PATH}"],
            )


def _bootstrap(archive: Path, architecture: str, mirror: str) -> None:
    excluded = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,ca-certificates"),
        f"--architectures={architecture}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in excluded),
        *(f"--aptopt={line}" for line in _proxies()),
        *(SUITE, str(archive)),
        f"deb {mirror} {SUITE} main",
    ]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": RELEASE_TIME}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err:"))]
        said = (lines or done.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise EnvironmentFault(
            f"mmdebstrap could not make a base image from {mirror}: {said}",
            "check that `apt-get "
            "update` works here, or give a base that the engine has with --base-image",
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
        "one",
        "install it (Debian, Ubuntu: apt-get install mmdebstrap), or `docker load` a base "
        "image and name it with --base-image",
    )


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _mirror() -> str:
    """The Debian mirror that this host's apt uses, else Debian's own."""
    form = "$(REPO_URI) $(ORIGIN) $(LABEL)"
    targets = _output(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in targets.splitlines():
        uri, _, origin = line.partition(" ")
        if origin.strip() == "Debian Debian" and uri.startswith(("http:", "https:")):
            return uri.rstrip("/")
    return MIRROR


def _proxies() -> list[str]:
    """The host's apt settings that its mirror may need."""
    said = _output(["apt-config", "dump"])
    return re.findall(
        r"^Acquire::https?::(?:Proxy|CaInfo|Verify-Peer)\b.* \".+\";$", said, re.MULTILINE
    )


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


QUESTIONS = """
import json, platform, subprocess
try:
    packages = subprocess.run(["dpkg-query", "-W"], capture_output=True, text=True).stdout
except OSError:
    packages = ""
print(json.dumps({
    "python": platform.python_version(),
    "machine": platform.machine(),
    "libc": platform.libc_ver(),
    "packages": packages,
}))
"""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The image that the eval image is built on.

    Attributes:
        identity: the same wherever the same base is used: a repository digest, a hash of a list of
            Debian packages, or, without both, the image id.
    """

    name: str
    identity: str
    platform: Platform


def prepare_base(
    api: docker_py.Api,
    *,
    wanted: str | None,
    default: str,
    fresh: bool,
    tell: Callable[[str], None],
) -> Base:
    """Pull, make or find the base image.

    Args:
        wanted: the image that the user named; no other will do.
        default: the image to pull if the user named none. If no image registry gives it, the base
            is made from Debian's packages.
        fresh: whether to pull or make it even if the engine has it.

    Raises:
        EnvironmentFault: no base can be pulled or made, or it has no Python to build on.
    """
    name = wanted or default
    if look_up_image(api, name) is not None and not fresh:
        tell(f"base image: {name}, which the engine has")
        return _describe(api, name)
    tell(f"base image: pulling {name}")
    if refusal := pull(api, name):
        if wanted is None:
            name = _without_registry(api, refusal, fresh=fresh, tell=tell)
        elif look_up_image(api, wanted) is None:
            raise EnvironmentFault(
                f"the base image {wanted} is not here and cannot be pulled: {refusal}",
                "check its name and the engine's network, or `docker load` it",
            )
    return _describe(api, name)


def _without_registry(
    api: docker_py.Api, refusal: str, *, fresh: bool, tell: Callable[[str], None]
) -> str:
    if look_up_image(api, DEBIAN_BASE) is not None and not fresh:
        tell(f"base image: {DEBIAN_BASE}, made here earlier, because {refusal}")
    else:
        tell(f"base image: Debian's packages instead, because {refusal}")
        make_debian_base(api, tell=tell)
    return DEBIAN_BASE


def base_of_ours(api: docker_py.Api, image: Image) -> Base:
    """An image that evalset built, as the base of another; its fingerprint identifies it."""
    found = _describe(api, image.name)
    return msgspec.structs.replace(found, identity=image.fingerprint or image.id)


def _describe(api: docker_py.Api, name: str) -> Base:
    image = require_image(api, name, "found")
    answer = ask(api, image.id, ["python3", "-c", QUESTIONS])
    if answer.exit_code:
        raise EnvironmentFault(
            f"the base image {name} has no working python3 ({answer.last_line})",
            "give one that has with --base-image",
        )
    found = json.loads(answer.stdout)
    platform = Platform.of(found)
    if platform is None:
        raise EnvironmentFault(
            f"the base image {name} has no glibc, and many wheels need it",
            "give a Debian-based one with --base-image",
        )
    if name == DEBIAN_BASE:
        identity = f"packages:{hashlib.sha256(found['packages'].encode()).hexdigest()}"
    else:
        identity = image.digest.partition("@")[2] if image.digest else image.id
    return Base(name=name, identity=identity, platform=platform)

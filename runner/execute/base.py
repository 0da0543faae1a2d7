import hashlib
import json
from collections.abc import Callable

import docker
import msgspec
from docker.errors import ImageNotFound

from runner.errors import EnvironmentFault
from runner.execute import debian_base, probe
from runner.execute.engine import answering
from runner.execute.pull import PullRefusedError, pull
from runner.execute.wheels import Platform

QUESTIONS = """
import json, platform, subprocess
try:
    packages = subprocess.run(["dpkg-query", "-W"], capture_output=True, text=True).stdout
except OSError:
    packages = ""
print(json.dumps({
    "python": ".".join(platform.python_version_tuple()[:2]),
    "machine": platform.machine(),
    "libc": platform.libc_ver(),
    "packages": packages,
}))
"""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The image that the eval image is built on.

    Attributes:
        name: as the engine knows it.
        identity: the same wherever the same base is used: a repository digest, a hash of a list of
            Debian packages, or, for want of both, the image id.
        platform: what Python packages must be made for.
    """

    name: str
    identity: str
    platform: Platform


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    python: str
    machine: str
    libc: tuple[str, str]
    packages: str


def prepare(
    api: docker.APIClient,
    *,
    wanted: str | None,
    default: str,
    fresh: bool,
    tell: Callable[[str], None],
) -> Base:
    """Have a base image at the engine.

    Args:
        api: a client.
        wanted: the image that the user named; it or an error.
        default: without such a name, the image to pull. Where no image registry gives it, the base
            is made from Debian's packages.
        fresh: whether to pull or make it although it is there.
        tell: takes one line on which way was taken, and why.

    Raises:
        EnvironmentFault: neither way leads to a base, or it has no Python to build on.
    """
    name = wanted or default
    if _is_here(api, name) and not fresh:
        tell(f"base image: {name}, which the engine has")
        return _describe(api, name)
    try:
        tell(f"base image: pulling {name}")
        pull(api, name)
    except PullRefusedError as refusal:
        if wanted is not None and not _is_here(api, wanted):
            raise EnvironmentFault(
                f"the base image {wanted} is not here and cannot be pulled: {refusal}; check its "
                "name and the engine's network, or `docker load` it"
            ) from refusal
        if wanted is None:
            name = _without_registry(api, refusal, fresh=fresh, tell=tell)
    return _describe(api, name)


def _without_registry(
    api: docker.APIClient, refusal: PullRefusedError, *, fresh: bool, tell: Callable[[str], None]
) -> str:
    if _is_here(api, debian_base.DEBIAN_BASE) and not fresh:
        tell(f"base image: {debian_base.DEBIAN_BASE}, made here earlier, for {refusal}")
    else:
        tell(f"base image: Debian's packages instead, for {refusal}")
        debian_base.make(api, tell=tell)
    return debian_base.DEBIAN_BASE


def _is_here(api: docker.APIClient, name: str) -> bool:
    with answering():
        try:
            api.inspect_image(name)  # type: ignore[no-untyped-call] # its stubs lack it
        except ImageNotFound:
            return False
    return True


def _describe(api: docker.APIClient, name: str) -> Base:
    with answering():
        details = api.inspect_image(name)  # type: ignore[no-untyped-call] # its stubs lack it
    answer = probe.ask(api, details["Id"], ["python3", "-c", QUESTIONS])
    if answer.exit_code:
        raise EnvironmentFault(
            f"the base image {name} has no working python3 ({answer.last_line}); give one that has "
            "with --base-image"
        )
    found = msgspec.convert(json.loads(answer.stdout), _Found)
    kind, version = found.libc
    if kind != "glibc":
        raise EnvironmentFault(
            f"the base image {name} has no glibc, and many wheels need it; give a Debian-based one "
            "with --base-image"
        )
    if name == debian_base.DEBIAN_BASE:
        identity = f"packages:{hashlib.sha256(found.packages.encode()).hexdigest()}"
    else:
        digests = sorted(full.partition("@")[2] for full in details.get("RepoDigests") or ())
        identity = digests[0] if digests else details["Id"]
    return Base(
        name=name,
        identity=identity,
        platform=Platform(
            python=found.python, machine=found.machine, glibc=int(version.split(".")[1])
        ),
    )

from typing import Any

import docker
import msgspec
from docker.errors import ImageNotFound
from docker.utils import parse_repository_tag

from runner.errors import EnvironmentFault
from runner.execute.engine import answering

# A name of our own making: no image registry is ever asked for it.
DEFAULT_IMAGE = "evalset/evals:3.0.1.post1"

# The label by which hosts that built alike can tell.
FINGERPRINT = "evalset.fingerprint"

# What the labels of our build begin with.
_OURS = "evalset."


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that the engine has.

    Attributes:
        id: `sha256:...`, of its configuration; two hosts that build alike have different ones.
        name: what it was looked up by.
        digest: its repository digest, of the name's own repository if that is among those it
            was pulled from; None for an image that no image registry knows.
        fingerprint: of its content, as `build` labels it: the same wherever it is built alike. It
            may be that of an image that it was built on; `own_fingerprint` tells.
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
        from runner.execute.pull import PullRefusedError, pull  # noqa: PLC0415 - seldom needed

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


def own_fingerprint(api: docker.APIClient, image: Image) -> str | None:
    """The fingerprint of an image of our own making; None for one that was built on top of one.

    Such an image inherits the label, but our build's labels are not the last of its steps.
    """
    if image.fingerprint is None:
        return None
    with answering():
        steps: list[dict[str, Any]] = api.history(image.id)  # type: ignore[no-untyped-call] # its stubs lack it
    return image.fingerprint if f"LABEL {_OURS}" in steps[0]["CreatedBy"] else None


def look(api: docker.APIClient, name: str) -> Image | None:
    """Look an image up at the engine, and nowhere else."""
    with answering():
        try:
            details: dict[str, Any] = api.inspect_image(name)  # type: ignore[no-untyped-call] # its stubs lack it
        except ImageNotFound:
            return None
    labels: dict[str, str] = details["Config"].get("Labels") or {}
    own = f"{parse_repository_tag(name.partition('@')[0])[0]}@"
    digests = sorted(details.get("RepoDigests") or (), key=lambda it: (not it.startswith(own), it))
    return Image(
        id=details["Id"],
        name=name,
        digest=digests[0] if digests else None,
        fingerprint=labels.get(FINGERPRINT),
        labels=labels,
    )

import fcntl
import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import APIError

from runner.image.image import look_up_image


def build_image(
    api: docker.APIClient,
    tag: str,
    dockerfile: str,
    *,
    files: Mapping[str, bytes] | None = None,
    labels: dict[str, str] | None = None,
    anew: bool = False,
) -> str:
    """Build an image for tests, and remove the one that had its name; gives its id.

    Args:
        api: of the engine.
        tag: its name.
        dockerfile: without a network.
        files: to copy, by path, each executable.
        labels: in addition to those of its base.
        anew: whether nothing that was built before is taken.
    """
    with alone():
        before = look_up_image(api, tag)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for name, data in {**(files or {}), "Dockerfile": dockerfile.encode()}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o755
                archive.addfile(entry, io.BytesIO(data))
        content.seek(0)
        said = list(
            api.build(
                fileobj=content,
                custom_context=True,
                tag=tag,
                labels=labels,
                nocache=anew,
                network_mode="none",
                rm=True,
                forcerm=True,
                decode=True,
            )
        )
        assert not [line for line in said if "error" in line], said
        built = look_up_image(api, tag)
        assert built is not None
        if before is not None and before.id in nameless(api):
            with suppress(APIError):  # a container of another test run still has it
                api.remove_image(before.id)
        return built.id


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process builds images for tests; they share names and layers."""
    with Path(tempfile.gettempdir(), "evalset-test-images.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def nameless(api: docker.APIClient) -> set[str]:
    """Ids of the images that have no name, and that no other is made of."""
    return {about["Id"] for about in api.images(filters={"dangling": True})}

import fcntl
import io
import shutil
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


# A recipe whose image is built in a second; its lock may have one package or none.
SMALL_RECIPE = """ARG BASE_IMAGE={base}
FROM ${{BASE_IMAGE}} AS venv
LABEL evalset.stage=venv
COPY . /wheels/
FROM ${{BASE_IMAGE}}
COPY --from=venv /wheels /wheels
"""


def with_small_recipe(package: Path, folder: Path, *, base: str, lock: str = "") -> Path:
    """Copy a package of ours, which then builds a small image; gives the folder that has the copy.

    Args:
        package: where it is, in a checkout or installed.
        folder: for the copy.
        base: the image that the small one is built on.
        lock: its Python packages.
    """
    parts = {"Dockerfile": SMALL_RECIPE.format(base=base), "image.lock": lock, "data.lock": ""}
    copy = shutil.copytree(package, folder / package.name)
    for name, text in parts.items():
        (copy / "image" / name).write_text(text)
    return folder


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process builds images for tests; they share names and layers."""
    with Path(tempfile.gettempdir(), "evalset-test-images.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def nameless(api: docker.APIClient) -> set[str]:
    """Ids of the images that have no name, and that no other is made of."""
    return {about["Id"] for about in api.images(filters={"dangling": True})}

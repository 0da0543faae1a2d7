import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress

import docker
import pytest
from docker.errors import ImageNotFound

from tests.image_registry import serving


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image registry on loopback; gives its `host:port`."""
    with serving(tmp_path_factory.mktemp("image-registry")) as address:
        yield address


@pytest.fixture
def pythonless(api: docker.APIClient, tag: str) -> str:
    """An image of one file, which is not a program."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    repository, _, version = tag.partition(":")
    api.import_image_from_data(content.getvalue(), repository=repository, tag=version)
    return tag


@pytest.fixture(scope="session")
def loopback_base(api: docker.APIClient, image_registry: str, local_base: str) -> Iterator[str]:
    """The base, in an image registry and no longer at the engine."""
    repository = f"{image_registry}/evalset/base"
    api.tag(local_base, repository, tag="1")
    for line in api.push(repository, tag="1", stream=True, decode=True):
        assert "error" not in line, line
    name = f"{repository}:1"
    api.remove_image(name)
    yield name
    with suppress(ImageNotFound):
        api.remove_image(name, force=True)

from collections.abc import Iterator

import pytest

from tests.image_registry import serving


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image registry on loopback; gives its `host:port`."""
    with serving(tmp_path_factory.mktemp("image-registry")) as address:
        yield address

import re
from collections.abc import Iterator

import pytest

from tests.conftest import Place, engine_api
from tests.pipeline.pinned import build


@pytest.fixture
def other_image(place: Place, request: pytest.FixtureRequest) -> Iterator[str]:
    """Another image with the tests' program in it."""
    name = f"evalset/test:{re.sub(r'[^a-z0-9]', '-', request.node.name)}"
    build(name, f"FROM {place.image}\nENV OTHER=1\n")
    yield name
    engine_api().remove_image(name, force=True)

import re
from collections.abc import Iterator

import pytest

from runner.image.image import FINGERPRINT
from tests.conftest import Place, engine_api
from tests.run.pinned import build


@pytest.fixture
def other_image(place: Place, request: pytest.FixtureRequest) -> Iterator[str]:
    """Another image with the tests' program in it."""
    name = f"evalset/test:{re.sub(r'[^a-z0-9]', '-', request.node.name)}"
    build(name, f"FROM {place.image}\nENV OTHER=1\n")
    yield name
    engine_api().remove_image(name, force=True)


@pytest.fixture
def image_on_top(place: Place, other_image: str) -> Iterator[str]:
    """An image on top of one with the fingerprint `fff...`, as `evalset image build` labels it."""
    build(other_image, f"FROM {place.image}\n", **{FINGERPRINT: "f" * 64})
    name = f"{other_image}-on-top"
    build(name, f"FROM {other_image}\nENV MORE=1\n")
    yield name
    engine_api().remove_image(name, force=True)

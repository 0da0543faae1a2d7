import os
from collections.abc import Iterator

import pytest

from tests.hosts.engine import SecondEngine


@pytest.fixture(scope="session")
def second_engine(test_image: str) -> Iterator[SecondEngine]:
    """A second Docker engine, with the tests' image; nothing of it stays."""
    if os.geteuid() != 0:
        pytest.skip("a second Docker engine needs root")
    engine = SecondEngine()
    try:
        engine.power_on()
        engine.load(test_image)
        yield engine
    finally:
        engine.remove()
    assert not engine.leftovers()


@pytest.fixture
def host_a(second_engine: SecondEngine) -> Iterator[SecondEngine]:
    """The second engine, with power and without containers."""
    if not second_engine.on:
        second_engine.power_on()
    yield second_engine
    if not second_engine.on:
        second_engine.power_on()
    api = second_engine.api
    for about in api.containers(all=True):
        api.remove_container(about["Id"], force=True, v=True)

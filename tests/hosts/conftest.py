import os
from collections.abc import Iterator

import msgspec
import pytest

from runner.engine.labels import Label
from runner.hosts.ledger import read_ledger
from tests.bridge import number_and_addresses
from tests.conftest import Place, engine_api, remove_containers
from tests.hosts.engine import SecondEngine
from tests.hosts.lab import Lab, lab, spool_of


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


@pytest.fixture(scope="session")
def whole_lab(test_image: str, local_base: str) -> Iterator[Lab]:
    """Three hosts with the image of the tests and that of agents.

    This machine's own engine and its bridge stay the same.
    """
    if os.geteuid() != 0:
        pytest.skip("hosts with engines of their own need root")
    before = number_and_addresses()
    with lab(3) as made:
        made.load(test_image, local_base)
        yield made
    assert number_and_addresses() == before


@pytest.fixture
def hosts(whole_lab: Lab) -> Iterator[Lab]:
    """A lab as it was made."""
    before = number_and_addresses()
    yield whole_lab
    whole_lab.clear()
    assert number_and_addresses() == before


@pytest.fixture
def here(place: Place) -> Iterator[Place]:
    """A place; what an agent of this machine left goes with it."""
    yield place
    spool = f"{Label.PROGRESS}=evalset:{read_ledger(place.layout).id or 'none'}"
    listed = engine_api().containers(all=True)
    left = [each["Id"] for each in listed if spool in spool_of(each["Labels"])]
    remove_containers(left)
    assert not left


# Half of the time that a run gives a host that says nothing, and no longer pauses.
WATCHFUL = (
    "from runner import cli; from runner.hosts import links; "
    "links.SILENCE, links.BEAT, links.LATER = 8.0, 0.5, 1.0; cli.main()"
)


@pytest.fixture
def watchful(here: Place) -> Place:
    """The same place for a program that notices sooner that a host is away, or is back."""
    return msgspec.structs.replace(here, program=("-c", WATCHFUL))

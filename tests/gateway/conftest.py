import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.desk import NO_CERTIFICATES, Desk, desk
from tests.provider import Provider

NUMBERS = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def no_certificates() -> Iterator[None]:
    """Set them for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NO_CERTIFICATES.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def alone(tmp_path: Path, stub: Provider) -> Iterator[Desk]:
    """A gateway that runs in a progress directory of its own."""
    with desk(tmp_path / "progress", stub) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, one_stub: Provider) -> Iterator[Desk]:
    """One gateway for all tests of a file that leave it as it was."""
    with desk(tmp_path_factory.mktemp("shared"), one_stub) as found:
        yield found


@pytest.fixture
def here(shared: Desk, stub: Provider) -> Desk:
    """The shared gateway, with attempts and evals that no other test has."""
    assert stub is shared.stub
    shared.prefix = f"t{next(NUMBERS)}-"
    return shared

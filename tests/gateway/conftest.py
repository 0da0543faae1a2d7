from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.desk import Desk, desk
from tests.provider import Provider, provider


@pytest.fixture(scope="module")
def one_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for all tests of a file."""
    with provider(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture
def stub(one_stub: Provider) -> Provider:
    """A provider that behaves well and has written nothing down."""
    one_stub.behave()
    for path in one_stub.folder.glob("*.jsonl"):
        path.write_bytes(b"")
    return one_stub


@pytest.fixture
def here(tmp_path: Path, stub: Provider) -> Iterator[Desk]:
    """A gateway that runs in a progress directory of its own."""
    with desk(tmp_path / "progress", stub) as found:
        yield found

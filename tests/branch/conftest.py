from pathlib import Path

import pytest

from tests.branch.desk import Desk, make_bare, make_clone


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """One host with a clone that has no remote."""
    return Desk(tmp_path / "host", make_clone(tmp_path / "clone"))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A bare repository between hosts."""
    return make_bare(tmp_path / "hub.git")


@pytest.fixture
def two(tmp_path: Path, hub: Path) -> tuple[Desk, Desk]:
    """Two hosts, each with a clone of its own."""
    one, other = (
        Desk(tmp_path / name, make_clone(tmp_path / f"clone-{name}", remote=hub), name)
        for name in ("a", "b")
    )
    return one, other

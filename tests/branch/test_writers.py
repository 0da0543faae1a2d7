from pathlib import Path

import pytest

from tests.branch.desk import BRANCH, git
from tests.branch.writers import missing, write_at_once

WRITERS = 32


@pytest.mark.slow  # 64 contending pushes
def test_many_writers_at_once_all_land(tmp_path: Path, hub: Path) -> None:
    """Nothing is lost, nobody gives up, and no writer needs more pushes than it may try."""
    pushes = write_at_once(tmp_path, hub, writers=WRITERS, snapshots=2)
    assert missing(hub, writers=WRITERS, snapshots=2) == []
    assert sum(pushes) <= 2 * WRITERS * 10
    # One line of history, in which every writer's snapshots are.
    authors = git(hub, "log", "--format=%(trailers:key=Evalset-Host,valueonly)", BRANCH).split()
    assert set(authors) == {f"w{number}" for number in range(WRITERS)}
    assert git(hub, "fsck", "--strict", "--no-dangling") == ""

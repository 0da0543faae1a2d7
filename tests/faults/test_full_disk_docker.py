import os
import random
from collections.abc import Callable, Sequence

import pytest

from runner.branch.progress_branch import OWN_REPOSITORY
from tests.amount import amount
from tests.branch.desk import BRANCH, git
from tests.conftest import Place
from tests.faults.chaos import Invocation
from tests.faults.conftest import numbered
from tests.faults.events import Recording
from tests.faults.invariants import check_end, check_events, check_now
from tests.faults.small_disk import small_disk

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]

PAGE = 4096
# Bytes with which everything has room.
ENOUGH = 4 * 2**20
# The limit that usually stops a run before the disk is full is not what is tested here.
NO_LIMIT = {"EVALSET_MIN_FREE_DISK": "0"}


def fill_again_and_again(
    place: Place, evals: Sequence[str], decide: random.Random, *options: str, most: int
) -> list[int]:
    """Run on a disk that is full again soon, until it has room for all; give the statuses."""
    place.registry(*evals)
    statuses: list[int] = []
    with small_disk(place.progress, 2 * PAGE) as disk:
        recording = Recording(place)
        before, said = b"", ""
        while not statuses or statuses[-1] != 0:
            assert disk.size < ENOUGH, said
            invocation = Invocation(place, ("--jobs", "3", *options), **NO_LIMIT)
            statuses.append(invocation.end())
            said = invocation.said()
            assert statuses[-1] in {0, 1, 3, 4}, said
            assert not invocation.crashed, said
            before = check_now(place, before)
            disk.grow(decide.randint(1, most) * PAGE)
        check_end(place, evals)
        check_events(place, recording.finish(), once=False)
        if options:
            repository = place.progress / OWN_REPOSITORY
            assert git(repository, "fsck", "--strict", "--no-dangling") == ""
            finished = git(repository, "show", f"{BRANCH}:oaievalset/m.s.progress.txt")
            assert f"{finished}\n" == place.layout.progress.read_text()
    return statuses


def test_evals_survive_a_disk_that_is_full(
    decide: random.Random, places: Callable[[], Place]
) -> None:
    """Every write may fail; no file is torn, nothing that succeeded runs again."""
    for _ in range(amount(1, 15)):
        statuses = fill_again_and_again(places(), numbered(30, "succeed"), decide, most=10)
        assert 3 in statuses


def test_snapshots_survive_a_disk_that_is_full(
    decide: random.Random, places: Callable[[], Place]
) -> None:
    """A repository on the full disk is not damaged, and has every success in the end."""
    options = ("--snapshot", "--remote", "none", "--snapshot-every", "1s")
    for _ in range(amount(1, 10)):
        evals = numbered(8, "succeed")
        statuses = fill_again_and_again(places(), evals, decide, *options, most=16)
        assert 3 in statuses

import random
import signal
from collections.abc import Callable

import pytest

from tests.amount import amount
from tests.conftest import Place
from tests.faults.chaos import Disturbance, disturbed, draw
from tests.faults.conftest import numbered
from tests.faults.events import Recording
from tests.faults.invariants import check_end, check_events

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

INT, TERM, HUP, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL
POLITE = ((INT,), (TERM,), (HUP,), (INT, INT), (TERM, INT), (INT, TERM))
ROUGH = (*POLITE, (INT, KILL), (TERM, KILL), (INT, INT, KILL))

# The evals that take longer outlast the shorter of the two graces.
GRACES = ("0.2s", "2s")


@pytest.mark.parametrize("ways", [POLITE, ROUGH], ids=["polite", "rough"])
def test_evals_survive_a_runner_that_gets_signals(
    ways: tuple[tuple[signal.Signals, ...], ...],
    decide: random.Random,
    places: Callable[[], Place],
) -> None:
    """What was stopped is attempted again, what succeeded is not; what was started is on record."""
    place = places()
    evals = numbered(30, "succeed", "succeed", "sleep.0.7")
    place.registry(*evals)
    recording = Recording(place)
    left = amount(6, 100)
    there: set[str] = set()

    def following() -> Disturbance | None:
        nonlocal left
        left -= 1
        return draw(decide, ways, longest=1.5) if left >= 0 else None

    def check_nothing_new_is_left(status: int) -> None:
        now = {*place.containers()}
        if status in {128 + INT, 128 + TERM, 128 + HUP}:
            assert now <= there, f"status {status}, and what it had started is still there"
        there.clear()
        there.update(now)

    options = ("--jobs", "3", "--grace", decide.choice(GRACES))
    disturbed(place, recording, options, following, after_each=check_nothing_new_is_left, done=(0,))
    check_end(place, evals)
    check_events(place, recording.finish(), once=False)

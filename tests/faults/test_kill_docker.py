import random
import signal
from collections.abc import Callable, Sequence

import pytest

from tests.amount import amount
from tests.conftest import Place
from tests.faults.chaos import Disturbance, disturbed, draw
from tests.faults.conftest import numbered
from tests.faults.events import Recording
from tests.faults.invariants import check_end, check_events

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

KILL = ((signal.SIGKILL,),)
AT_ONCE = ("--jobs", "3")


class Kills:
    """Kills at random moments, so many in all."""

    def __init__(self, decide: random.Random, count: int) -> None:
        self._decide = decide
        self.left = count

    def next(self) -> Disturbance | None:
        """The next one, if any is left."""
        if self.left <= 0:
            return None
        self.left -= 1
        return draw(self._decide, KILL, longest=1.5)


def kill_until_done(
    kills: Kills,
    places: Callable[[], Place],
    evals: Sequence[str],
    *options: str,
    done: Sequence[int] = (0,),
) -> None:
    """Run set after set to its end, until all kills have met a runner."""
    while kills.left > 0:
        place = places()
        place.registry(*evals)
        recording = Recording(place)
        before = kills.left
        met = disturbed(place, recording, (*AT_ONCE, *options), kills.next, done=done)
        kills.left = before - met
        check_events(place, recording.finish(), once=done == (0,))
        check_end(place, [name for name in evals if not name.startswith("fail")])


def test_thirty_quick_evals_survive_a_runner_that_is_killed(
    decide: random.Random, places: Callable[[], Place]
) -> None:
    """Whenever it is killed, each eval is started once, recorded once, and nothing is left."""
    kill_until_done(Kills(decide, amount(25, 200)), places, numbered(30, "succeed"))


def test_evals_that_fail_or_take_longer_survive_it_as_well(
    decide: random.Random, places: Callable[[], Place]
) -> None:
    """The next run attempts failures again, and no successes among them."""
    evals = numbered(14, "succeed", "fail.3", "sleep.0.6", "succeed", "sleep.1.2")
    kills = Kills(decide, amount(6, 60))
    kill_until_done(kills, places, evals, "--no-exit-on-error", done=(0, 1))

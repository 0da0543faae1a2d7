import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.amount import SOAK
from tests.conftest import Place
from tests.faults.chaos import Invocation
from tests.faults.conftest import numbered
from tests.faults.events import Recording
from tests.faults.invariants import check_end, check_events, check_now
from tests.faults.points import CALLS, VARIABLE, Point, all_points

pytestmark = [pytest.mark.docker, pytest.mark.timeout(7200)]

AT_ONCE = ("--jobs", "2", "--retries", "3")
EVALS = numbered(3, "succeed")


def run_with(place: Place, point: Point) -> Invocation:
    """Run to the end, whatever that is, with a disturbance at this point."""
    counting = msgspec.structs.replace(place, program=("-m", "tests.faults.points"))
    invocation = Invocation(
        counting,
        AT_ONCE,
        **{VARIABLE: msgspec.json.encode(point).decode()},
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    invocation.end()
    return invocation


def test_a_run_survives_at_each_of_its_calls(
    decide: random.Random, places: Callable[[], Place], tmp_path: Path
) -> None:
    """Killed before or after it, or refused what it asks for: the next run makes all good."""
    place = places()
    place.registry(*EVALS)
    counts, met = tmp_path / "counts", tmp_path / "met"
    unharmed = run_with(place, Point(counts=str(counts), met=str(met)))
    assert unharmed.process.returncode == 0, unharmed.said()
    found = json.loads(counts.read_text())
    assert found.keys() == CALLS.keys(), "the calls have other names now"
    points = all_points(found, tmp_path)
    chosen = points if SOAK else decide.sample(points, 12)
    wrong = {}
    were_met = 0
    for point in chosen:
        met.unlink(missing_ok=True)
        try:
            survive(places(), point)
        except AssertionError as error:
            name = f"{point.kind} {point.number} {point.way}"
            wrong[name] = str(error).partition("\n")[0][:300]
            print(f"{name}: {wrong[name]}", flush=True)
        were_met += met.exists()
    assert were_met > 0.8 * len(chosen), f"{were_met} of {len(chosen)} points were met"
    assert not wrong, f"{len(wrong)} of {len(chosen)}: {json.dumps(wrong, indent=1)}"


def survive(place: Place, point: Point) -> None:
    """Run with a disturbance, and again without, and check."""
    place.registry(*EVALS)
    recording = Recording(place)
    invocation = run_with(place, point)
    before = check_now(place)
    assert not invocation.crashed, invocation.said()
    invocation = Invocation(place, AT_ONCE)
    assert invocation.end() == 0, invocation.said()
    check_now(place, before)
    check_end(place, EVALS)
    spoils = point.way in {"unsent", "unheard"}
    check_events(place, recording.finish(), once=not spoils)

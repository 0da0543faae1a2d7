import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from runner.engine.labels import Label
from runner.model import Result
from tests.amount import amount
from tests.conftest import Place
from tests.faults.chaos import Invocation
from tests.faults.conftest import numbered
from tests.faults.events import Recording
from tests.faults.invariants import check_end, check_events, check_now
from tests.faults.restarting_engine import RestartingEngine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a second Docker engine needs root"),
]


@pytest.fixture(scope="module")
def engine(test_image: str) -> Iterator[RestartingEngine]:
    """An engine that may be killed, with the tests' image; nothing of it stays."""
    engine = RestartingEngine()
    try:
        engine.power_on()
        engine.load(test_image)
        yield engine
    finally:
        engine.remove()
    assert not engine.leftovers()


def containers(engine: RestartingEngine, place: Place) -> list[str]:
    """Ids of the containers of a progress directory there."""
    filters = {"label": f"{Label.PROGRESS}={place.progress}"}
    return [about["Id"] for about in engine.api.containers(all=True, filters=filters)]


def test_evals_survive_an_engine_that_is_killed_and_started_again(
    decide: random.Random, places: Callable[[], Place], engine: RestartingEngine
) -> None:
    """What it spoils is lost and retried; no eval is blamed, and nothing is forgotten."""
    ways = [
        lambda: engine.end(signal.SIGKILL),
        lambda: engine.end(signal.SIGTERM),
        engine.lose_power,
    ]
    left = amount(4, 60)
    while left > 0:
        place = places()
        evals = numbered(30, "succeed", "succeed", "sleep.0.5", "sleep.2")
        place.registry(*evals)
        recording = Recording(place, engine.address)
        status = 3
        before = b""
        while status:
            invocation = Invocation(
                place, ("--jobs", "3", "--retries", "9"), DOCKER_HOST=engine.address
            )
            for _ in range(3):
                delay, way = decide.uniform(0.1, 2.5), decide.choice(ways)
                time.sleep(delay)
                if left > 0 and invocation.process.poll() is None:
                    way()
                    left -= 1
            status = invocation.end()
            assert status in {0, 3}, invocation.said()
            assert not invocation.crashed, invocation.said()
            before = check_now(place, before)
        failed = [record for record in place.records() if record.result is Result.FAILURE]
        assert not failed, f"the engine's end was taken for an eval's: {failed}"
        assert containers(engine, place) == []
        check_end(place, evals)
        check_events(place, recording.finish(), once=False, witnessed=False)

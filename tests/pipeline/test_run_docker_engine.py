import time

import msgspec
import pytest

from runner.job import Result
from tests.conftest import Place
from tests.proxy import proxied

pytestmark = pytest.mark.docker


def patient_for(place: Place, seconds: int) -> Place:
    """The same place for a program that waits so long for an engine that went away."""
    code = (
        "from runner import cli; from runner.execute import watch; "
        f"watch.ENGINE_ABSENCE = {seconds}; cli.main()"
    )
    return msgspec.structs.replace(place, program=("-c", code))


def test_an_engine_that_comes_back_costs_nothing(place: Place) -> None:
    """A wait that broke off is taken up again, however long it had gone well before."""
    place.registry("wait.a")
    with (
        proxied(place.folder) as engine,
        patient_for(place, 2).running(DOCKER_HOST=engine.address) as run,
    ):
        place.until_running(1)
        time.sleep(2.5)
        engine.end()
        time.sleep(0.3)
        engine.begin()
        time.sleep(1)
        place.let_go()
        assert run.wait(20) == 0
    (record,) = place.records()
    assert record.result is Result.SUCCESS


def test_an_eval_outlives_the_absence_of_its_engine(place: Place) -> None:
    """Where the engine stays away the run ends with 3, and the next one takes the success in."""
    place.registry("wait.a")
    with (
        proxied(place.folder) as engine,
        patient_for(place, 1).running(DOCKER_HOST=engine.address) as run,
    ):
        place.until_running(1)
        engine.end()
        out, _ = run.communicate(timeout=30)
    assert run.returncode == 3
    assert "the engine went away for more than 1 s" in out
    assert "taken in by the next run" in out
    assert place.records() == []
    (attempt,) = [path.name for path in (place.progress / ".attempts").iterdir()]
    place.let_go()
    assert place.run().returncode == 0
    (record,) = place.records()
    assert (record.attempt, record.result) == (attempt, Result.SUCCESS)

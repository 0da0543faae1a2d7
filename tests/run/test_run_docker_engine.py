import threading
import time

import pytest

from runner.model import Fault, Result
from tests.conftest import Place, until
from tests.proxy import proxied
from tests.run.talk import said_until

pytestmark = pytest.mark.docker


def test_an_engine_that_comes_back_costs_nothing(place: Place) -> None:
    """A wait that broke off is taken up again, however long it had gone well before."""
    place.registry("wait.a")
    with (
        proxied(place.folder) as engine,
        place.running("--engine-wait", "2s", DOCKER_HOST=engine.address) as run,
    ):
        place.until_running(1)
        time.sleep(2.5)
        engine.end()
        said_until(run, "warning: the Docker engine went away; waiting up to 2 s for it")
        engine.begin()
        said_until(run, "the Docker engine is back after")
        place.let_go()
        assert run.wait(20) == 0
    (record,) = place.records()
    assert record.result is Result.SUCCESS


def test_an_eval_outlives_the_absence_of_its_engine(place: Place) -> None:
    """Where the engine stays away the run ends with 3, and the next one takes the success in."""
    place.registry("wait.a", "wait.b")
    with (
        proxied(place.folder) as engine,
        place.running("--engine-wait", "1s", "--jobs", "2", DOCKER_HOST=engine.address) as run,
    ):
        place.until_running(2)
        engine.end()
        out, _ = run.communicate(timeout=30)
    assert run.returncode == 3
    assert "the engine went away for more than 1 s (--engine-wait; " in out
    assert "the next run takes over what ran there" in out
    assert place.records() == []
    attempts = {path.name for path in (place.progress / ".attempts").iterdir()}
    place.let_go()
    assert place.run().returncode == 0
    assert {record.id for record in place.records()} == attempts
    assert {record.result for record in place.records()} == {Result.SUCCESS}


def test_an_absence_between_two_evals_uses_up_one_retry(place: Place) -> None:
    """An attempt that cannot be made now is made once the engine is back, not thrice at once."""
    place.registry("wait.a", "succeed.b")
    with (
        proxied(place.folder) as engine,
        place.running("--jobs", "1", "--retries", "1", DOCKER_HOST=engine.address) as run,
    ):
        place.until_running(1)
        # The eval ends while the engine is away, so that what comes next finds it away.
        engine.end()
        place.let_go()
        said_until(run, "went away")
        time.sleep(3)
        engine.begin()
        out, _ = run.communicate(timeout=30)
    assert run.returncode == 0, out
    assert place.finished() == ["wait.a", "succeed.b"]
    assert all(record.result is Result.SUCCESS for record in place.records())


def test_an_attempt_that_meets_an_absence_is_made_again(place: Place) -> None:
    """The engine goes away as a container is created: that attempt is lost, another is made."""
    place.registry("succeed.a")
    with proxied(place.folder, lose="/containers/create") as engine:
        ended = place.run("--retries", "1", DOCKER_HOST=engine.address)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lost, success = place.records()
    assert (lost.result, lost.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert success.result is Result.SUCCESS


def test_a_start_whose_answer_was_lost_is_no_second_start(place: Place) -> None:
    """The engine had started the container before it went away: that attempt continues."""
    place.registry("succeed.a")
    with proxied(place.folder, lose="/start") as engine:
        ended = place.run("--retries", "0", DOCKER_HOST=engine.address)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (record,) = place.records()
    assert record.result is Result.SUCCESS


def test_an_interrupt_ends_a_run_whose_engine_is_away(place: Place) -> None:
    """Ctrl-C works then, too; the container is left, and the next run continues with it."""
    place.registry("wait.a")
    impatient = (
        "from runner import cli; from runner.run import stopping; "
        "stopping.LET_GO = stopping.STOP_TIME = 0.2; cli.main()"
    )
    patient = Place(place.folder, place.cache, place.image, ("-c", impatient))
    with (
        proxied(place.folder) as engine,
        patient.running("--grace", "0s", DOCKER_HOST=engine.address) as run,
    ):
        place.until_running(1)
        engine.end()
        said_until(run, "went away")
        run.terminate()
        assert run.stdout
        assert "wait.a has not ended though it was killed" in run.stdout.read()
        assert run.wait(20) == 143
    (container,) = place.containers()
    with place.running() as run:
        threading.Timer(0.5, place.let_go).start()
        assert run.wait(20) == 0
    assert container not in place.containers()
    until(lambda: place.finished() == ["wait.a"])

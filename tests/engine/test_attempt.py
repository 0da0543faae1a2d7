import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast
from unittest.mock import Mock

import pytest
from docker.errors import NotFound
from requests.exceptions import Timeout

from runner.engine.attempt import LocalAttempts
from runner.engine.engine import Engine, EngineWait
from runner.engine.labels import Label
from runner.engine.leftovers import Leftover, discard
from runner.engine.run_facts import RunFacts
from runner.image.image import find_image
from runner.model import Attempt, Command, ContainerSettings, Fault, Job, Result, Task
from runner.records.folders import private_folder
from runner.records.layout import Layout
from tests.conftest import TEST_IMAGE, Place, engine_api

if TYPE_CHECKING:
    import docker

pytestmark = pytest.mark.docker

COMMAND = Command(("o", "m", "e"))


@pytest.fixture
def attempts(place: Place) -> LocalAttempts:
    """Attempts of a run of `m` and `s`."""
    found = find_image(engine_api(), place.image)
    shared = RunFacts(
        layout=place.layout,
        run="r",
        host="h",
        images={place.image: found.id},
        registries={},
        environment={},
        user="0:0",
        cpus=1,
    )
    engine = Engine()
    return LocalAttempts(engine, shared, EngineWait(engine, limit=1, tell=lambda _: None))


def job(place: Place, name: str, network: str = "none") -> Job:
    """A job of the tests' program."""
    settings = ContainerSettings(
        image=place.image,
        memory=64 << 20,
        cpus=64,
        pids_limit=50,
        gpus=None,
        timeout=30,
        network=network,
    )
    command = Command(("/bin/program", "m", name))
    return Job(command=command, argv=command, settings=settings)


def made(
    attempts: LocalAttempts, one: Job, on_start: Callable[[str], None] = lambda _: None
) -> AbstractContextManager[Attempt]:
    """A new attempt, called `a1`."""
    task = Task(job=one, attempt="a1")
    return attempts.run(task, on_start=on_start, on_success=lambda: None)


def ended(
    attempts: LocalAttempts, one: Job, on_start: Callable[[str], None] = lambda _: None
) -> Attempt:
    """The outcome of an attempt that was recorded."""
    with made(attempts, one, on_start) as outcome:
        return outcome


def leftover(place: Place, container: str) -> Leftover:
    """What an earlier run left of that attempt."""
    return Leftover(
        layout=place.layout,
        attempt="a1",
        command=COMMAND,
        container=container,
        created="",
        running=False,
    )


def private(layout: Layout) -> list[Path]:
    """What is left of private folders."""
    return list(layout.root.glob(".attempts/*"))


def test_a_container_is_there_until_its_outcome_is_recorded(
    place: Place, attempts: LocalAttempts
) -> None:
    """Whoever is killed before that finds it again; afterwards nothing of it is left."""
    with made(attempts, job(place, "succeed.a")) as outcome:
        assert outcome.result is Result.SUCCESS
        assert (outcome.id, outcome.run, outcome.host, outcome.eval) == (
            "a1",
            "r",
            "h",
            "succeed.a",
        )
        assert len(place.containers()) == 1
        assert private(place.layout)
    assert place.leftovers() == []


def test_an_outcome_that_was_not_recorded_keeps_its_container(
    place: Place, attempts: LocalAttempts
) -> None:
    """An exception while it is recorded leaves container and private folder to the next run."""
    one = job(place, "succeed.a")
    with (
        pytest.raises(OSError, match="disk full"),
        made(attempts, one),
    ):
        raise OSError("disk full")
    (container,) = place.containers()
    task = Task(job=one, attempt="a1", container=container)
    with attempts.run(task, on_start=lambda _: None, on_success=lambda: None) as outcome:
        assert outcome.result is Result.SUCCESS
        assert len(outcome.logs) == 1
    assert place.leftovers() == []


def test_a_container_that_comes_late_is_ended_as_the_others(
    place: Place, attempts: LocalAttempts
) -> None:
    """One that starts just when all are told to end does not run on."""
    outcome = ended(attempts, job(place, "wait.a"), lambda _: attempts.live.end_all("stopped"))
    assert (outcome.result, outcome.reason) == (Result.LOST, "stopped")
    late = ended(attempts, job(place, "wait.a"))
    assert late.reason == "stopped"


def test_a_container_that_comes_late_is_killed_as_the_others(
    place: Place, attempts: LocalAttempts
) -> None:
    """Once it has come to killing, no polite signal is tried."""
    attempts.live.end_all("killed", kill=True)
    outcome = ended(attempts, job(place, "deaf.a"))
    assert (outcome.exit_code, outcome.reason) == (137, "killed")


def test_a_container_that_something_removes_is_lost(place: Place, attempts: LocalAttempts) -> None:
    """Nobody knows how it would have ended, which is no fault of the eval's."""

    def remove(container: str) -> None:
        engine_api().remove_container(container, force=True, v=True)

    outcome = ended(attempts, job(place, "wait.a"), remove)
    assert (outcome.result, outcome.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert "its container is gone" in outcome.reason
    assert place.leftovers() == []


def test_what_the_engine_refuses_is_an_outcome(place: Place, attempts: LocalAttempts) -> None:
    """The attempt is lost with the engine's words, and leaves nothing."""
    outcome = ended(attempts, job(place, "succeed.a", network="container:gone"))
    assert (outcome.result, outcome.fault) == (Result.LOST, Fault.ENVIRONMENT)
    assert outcome.reason.startswith("the Docker engine refused: ")
    assert outcome.started_at is None
    assert place.leftovers() == []


def test_no_eval_gets_more_cpus_than_there_are(place: Place, attempts: LocalAttempts) -> None:
    """The engine would refuse a limit above its own number."""
    seen = []

    def look(container: str) -> None:
        seen.append(engine_api().inspect_container(container)["HostConfig"]["NanoCpus"])

    ended(attempts, job(place, "succeed.a"), look)
    assert seen == [1_000_000_000]


def test_the_folder_of_a_container_that_cannot_be_removed_stays(place: Place) -> None:
    """What runs there could write to it while it is deleted, or lead it astray."""

    class Stuck:
        """An engine that cannot kill."""

        base_url, api_version = "http://engine", "1.41"

        def post(self, _place: str, **_options: object) -> None:
            raise Timeout

        def wait(self, _container: str, **_options: object) -> None:
            raise Timeout

    left = leftover(place, "c")
    with private_folder(place.layout, "a1") as folder:
        pass
    assert not discard(cast("docker.APIClient", Stuck()), left)
    assert folder.exists()
    gone = leftover(place, "none")
    assert discard(engine_api(), gone)
    assert place.leftovers() == []


def test_who_is_killed_while_discarding_leaves_what_can_be_found(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container goes last, because a folder without one belongs to nobody."""
    api = engine_api()
    with private_folder(place.layout, "a1") as folder:
        (folder / "file").touch()
        made = api.create_container(TEST_IMAGE, "true", labels={Label.ATTEMPT: "a1"})["Id"]
    left = leftover(place, made)
    with monkeypatch.context() as patched:
        patched.setattr(
            "runner.engine.leftovers.remove_private", Mock(side_effect=KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            discard(api, left)
    assert api.inspect_container(made)["Id"] == made
    assert discard(api, left)
    assert place.leftovers() == []
    with pytest.raises(NotFound):
        api.inspect_container(made)


def test_a_folder_that_cannot_be_deleted_keeps_its_container(
    place: Place, attempts: LocalAttempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks for the folder once its container is gone; the next run removes both."""
    one = job(place, "succeed.a")
    with monkeypatch.context() as patched:
        full = Mock(side_effect=OSError(errno.EIO, "Input/output error"))
        patched.setattr("runner.engine.attempt.remove_private", full)
        with (
            pytest.raises(OSError, match="Input/output error"),
            made(attempts, one) as outcome,
        ):
            assert outcome.result is Result.SUCCESS
    assert private(place.layout)
    (container,) = place.containers()
    left = leftover(place, container)
    assert discard(engine_api(), left)
    assert not private(place.layout)
    assert place.containers() == []

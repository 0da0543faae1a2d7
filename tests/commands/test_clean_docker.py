import os
import subprocess
import time

import pytest
from docker.errors import NotFound

from runner.engine.image_probe import PROBE, remove_leftover_probes
from runner.model import Result
from runner.records.folders import private_folder
from runner.records.progress import read_attempts
from tests.conftest import Place, engine_api
from tests.run.crashing import crash, end_first

pytestmark = pytest.mark.docker


def test_clean_records_what_ended_and_kills_what_runs(place: Place) -> None:
    """Nothing that finished is lost by cleaning up."""
    place.registry("wait.a", "wait.b")
    crash(place, 2, "--jobs", "2")
    attempt = end_first(place)
    ended = place.ask("clean")
    assert ended.returncode == 0, ended.stderr
    assert place.leftovers() == []
    (name,) = place.finished()
    assert [(record.id, record.eval) for record in place.records()] == [(attempt, name)]


def test_after_a_reset_nothing_of_a_killed_run_goes_on(place: Place) -> None:
    """What had ended is on record in the files that are kept; what ran is killed."""
    place.registry("wait.a", "wait.b")
    crash(place, 2, "--jobs", "2")
    end_first(place)
    ended = place.ask("reset", "m", "s")
    assert ended.returncode == 0, ended.stderr
    assert place.leftovers() == []
    (kept,) = place.layout.attempts.parent.glob("*.attempts.jsonl.*Z")
    (record,) = read_attempts(kept).records
    assert record.result is Result.SUCCESS
    (killed,) = {"wait.a", "wait.b"} - {record.eval}
    assert ended.stdout.splitlines()[:2] == [
        f"recorded {record.eval}, which had ended",
        f"killed {killed}, which was running",
    ]
    assert not place.layout.progress.exists()


def test_a_reset_without_an_engine_says_what_may_be_left(place: Place) -> None:
    """The files are set aside all the same."""
    place.registry("succeed.a")
    assert place.run().returncode == 0
    nowhere = place.environ(DOCKER_HOST="unix:///nonexistent.sock")
    ended = subprocess.run(
        place.line("m", "s", command="reset"),
        capture_output=True,
        text=True,
        check=False,
        env=nowhere,
    )
    assert ended.returncode == 0, ended.stderr
    assert "warning: no Docker engine answers" in ended.stderr
    assert not place.layout.progress.exists()


def test_clean_leaves_a_live_run_alone(place: Place) -> None:
    """It says who holds the set, and touches none of its containers."""
    place.registry("wait.a")
    with place.running() as run:
        place.until_running(1)
        ended = place.ask("clean")
        assert f"process {run.pid} on " in ended.stdout + ended.stderr
        place.let_go()
        assert run.wait(20) == 0
    assert place.finished() == ["wait.a"]


def test_clean_leaves_other_progress_directories_alone(place: Place) -> None:
    """Only containers of the directory that it is asked about are its business."""
    place.registry("wait.a")
    containers = crash(place, 1)
    ended = place.ask("clean", "--progress-dir", str(place.folder / "other"))
    assert ended.returncode == 0
    assert place.containers() == containers
    place.ask("clean")


def test_clean_removes_old_probes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed reading of an image's registry leaves its container, too."""
    api = engine_api()
    left = api.create_container(place.image, command=["true"], labels={PROBE: ""})["Id"]
    listed = api.containers
    # Other tests have probes of their own, which are not old.
    monkeypatch.setattr(
        api, "containers", lambda **asked: [each for each in listed(**asked) if each["Id"] == left]
    )
    remove_leftover_probes(api)
    assert api.inspect_container(left)
    monkeypatch.setattr(time, "time", lambda: 9e9)
    remove_leftover_probes(api)
    with pytest.raises(NotFound):
        api.inspect_container(left)


def test_clean_leaves_private_folders_alone_while_a_run_is_live(place: Place) -> None:
    """A live run may have its containers on an engine that was not asked."""
    place.registry("wait.a")
    with private_folder(place.layout, "elsewhere") as old:
        pass
    os.utime(old, (1, 1))
    with place.running() as run:
        place.until_running(1)
        assert place.ask("clean").returncode == 3
        assert old.exists()
        place.let_go()
        assert run.wait(20) == 0
    os.utime(old, (1, 1))  # letting go has touched all of them
    ended = place.ask("clean")
    assert ended.returncode == 0
    assert not old.exists(), ended.stdout + ended.stderr

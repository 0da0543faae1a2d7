import threading
import time
from pathlib import Path

import pytest

from runner.run import background_snapshots as background
from runner.run.background_snapshots import BackgroundSnapshots
from tests.branch.desk import BRANCH, Desk, git
from tests.conftest import until


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gather and pause for moments only."""
    monkeypatch.setattr(background, "GATHER", 0.05)
    monkeypatch.setattr(background, "SHARE", 0)


def test_evals_that_end_together_make_one_commit(desk: Desk) -> None:
    """What ends while it is gathered is in the same snapshot."""
    with desk.snapshots() as (snapshots, warnings):
        taking = BackgroundSnapshots(snapshots, every=60, warn=warnings.append)
        taking.start()
        for name in ("x", "y", "z"):
            desk.succeed(name)
            taking.changed()
        until(lambda: git(desk.clone, "branch", "--list", BRANCH))
        assert taking.end() == ""
    assert desk.subjects() == ["m s 3/3 (+3)"]
    assert warnings == []


def test_the_last_snapshot_has_what_came_last(desk: Desk, hub: Path) -> None:
    """Nobody has to wait for the next interval."""
    with desk.snapshots(remote=str(hub)) as (snapshots, warnings):
        taking = BackgroundSnapshots(snapshots, every=60, warn=warnings.append)
        taking.start()
        desk.succeed("x")
        assert taking.end() == ""
    assert git(hub, "log", "--format=%s", BRANCH) == "m s 1/1 (+1)"


def test_nobody_waits_for_a_snapshot(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Telling of a change returns at once, however long Git takes."""
    going_on = threading.Event()
    with desk.snapshots() as (snapshots, warnings):
        monkeypatch.setattr(snapshots, "take", lambda: going_on.wait(10))
        taking = BackgroundSnapshots(snapshots, every=60, warn=warnings.append)
        taking.start()
        began = time.monotonic()
        for _ in range(100):
            taking.changed()
        assert time.monotonic() - began < 1
        going_on.set()
        taking.end()


def test_a_remote_that_is_away_is_said_once_retried_and_said_at_the_end(
    desk: Desk, hub: Path
) -> None:
    """It stops nothing; when it is back, all of it lands."""
    away = hub.with_name("away.git")
    with desk.snapshots(remote=str(hub)) as (snapshots, warnings):
        taking = BackgroundSnapshots(snapshots, every=0.1, warn=warnings.append)
        hub.rename(away)
        taking.start()
        desk.succeed("x")
        taking.changed()
        until(lambda: snapshots.pushes >= 3)
        assert len(warnings) == 1
        assert "it is retried" in warnings[0]
        away.rename(hub)
        desk.succeed("y")
        taking.changed()
        both = "m s 2/2"
        until(lambda: both in git(hub, "log", "--format=%s", "--branches", "--max-count=1"))
        hub.rename(away)
        desk.succeed("z")
        problem = taking.end()
    assert str(hub) in problem
    assert desk.subjects()[0] == "m s 3/3 (+1)"


def test_a_run_that_is_stopped_does_not_wait_for_the_pause(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops it may kill it soon: what has ended is committed at once."""
    monkeypatch.setattr(background, "SHARE", 10_000)
    with desk.snapshots() as (snapshots, warnings):
        taking = BackgroundSnapshots(snapshots, every=60, warn=warnings.append)
        taking.start()
        desk.succeed("x")
        taking.changed()
        until(lambda: git(desk.clone, "branch", "--list", BRANCH))
        desk.succeed("y")
        taking.changed()
        time.sleep(0.3)
        assert len(desk.subjects()) == 1
        taking.hurry()
        until(lambda: len(desk.subjects()) == 2)
        taking.end()

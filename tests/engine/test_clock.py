import os
import subprocess
import sys
import time

import pytest

from runner.engine import ending
from runner.engine.attempt import _ran_for
from runner.engine.container import ContainerState
from runner.engine.ending import _boot, _wait, now, since, stamp


def state(
    *, running: bool = False, began: str = "00:00:10", ended: str = "00:00:14"
) -> ContainerState:
    """A container that the engine says began and ended at these times of a day."""
    return ContainerState(
        image="i",
        running=running,
        exit_code=0,
        oom_killed=False,
        started_at=f"2025-01-01T{began}.000000Z",
        ended_at=f"2025-01-01T{ended}.000000Z",
    )


def ago(seconds: float) -> str:
    """The stamp of a moment that is so long ago."""
    boot, _, moment = stamp().partition(" ")
    return f"{boot} {float(moment) - seconds}"


def test_time_passes_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time of day is changed to, seconds are counted as they pass."""
    before = ago(90)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert since(before) == pytest.approx(90, abs=5)


@pytest.mark.parametrize("stamped", ["", "?", "another-boot 12.0", "another-boot x"])
def test_another_start_of_the_host_cannot_be_compared(stamped: str) -> None:
    """Nor can what an older version has not noted."""
    assert since(stamped) is None


def test_a_moment_that_is_still_to_come_is_none_of_ours() -> None:
    """A clock that starts anew, as in another virtual machine, tells nothing."""
    assert since(ago(-60)) is None


def test_a_host_without_an_id_for_its_start_has_a_clock_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    """Only Linux has one."""
    monkeypatch.setattr(ending, "BOOT_ID", tmp_path / "none")  # type: ignore[operator]
    _boot.cache_clear()
    try:
        assert stamp().startswith("unknown ")
    finally:
        _boot.cache_clear()


def test_an_eval_that_was_watched_to_its_end_took_the_time_that_passed() -> None:
    """The engine's clock, which somebody may have set meanwhile, does not count."""
    took = _ran_for(state(ended="23:00:00"), ago(30), watched=True)
    assert took == pytest.approx(30, abs=5)


def test_an_eval_that_ended_unseen_took_what_the_engine_says() -> None:
    """Nobody else has seen its end."""
    assert _ran_for(state(), ago(3600), watched=False) == 4


def test_no_eval_took_longer_than_there_was_time() -> None:
    """A clock that was set forward meanwhile adds nothing."""
    took = _ran_for(state(ended="23:00:00"), ago(30), watched=False)
    assert took == pytest.approx(30, abs=5)


def test_a_clock_that_was_set_back_takes_no_time_away() -> None:
    """A duration is never below zero."""
    assert _ran_for(state(began="12:00:00"), "", watched=False) == 0


def test_what_never_started_took_no_time() -> None:
    """Nor does what nothing is known of."""
    assert _ran_for(None, ago(30), watched=False) == 0


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_times_are_utc_wherever_the_host_is(zone: str) -> None:
    """A record says when it was, and two of them can be compared."""
    code = "from runner.engine.ending import now; print(now())"
    before = now()
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": zone},
    ).stdout.strip()
    assert before < said < now()
    assert said.endswith("Z")


class _Runs:
    """A container that never ends; notes how long it was waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        """The time is over at once."""
        self.waits.append(seconds)
        return False


def test_an_eval_that_waits_for_its_turn_gets_that_time_besides() -> None:
    """What it waited for at a provider when its time is over, and what it waits from then on."""
    container, queued = _Runs(), iter([30.0, 50.0, 50.0])
    timed_out = _wait(container, 10, None, lambda: next(queued))  # type: ignore[arg-type] # asks no more
    assert timed_out
    assert container.waits == pytest.approx([10, 40, 60], abs=1)

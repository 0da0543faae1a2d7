import threading

import pytest

from runner.engine.engine import Engine
from runner.engine.live import follow_samples
from tests.conftest import Place, until

pytestmark = pytest.mark.docker


def test_samples_are_counted_while_an_eval_runs(place: Place) -> None:
    """Its progress bar is read though its line never ends, and the thread ends with the eval."""
    place.registry("bar.v0")
    counts: list[tuple[int, int]] = []
    with place.running() as run:
        (container,) = until(place.containers)
        until(lambda: place.containers(every=False))
        before = set(threading.enumerate())
        follow_samples(Engine(), container, lambda *count: counts.append(count))
        until(lambda: (7, 7) in counts)
        place.let_go()
        assert run.wait(20) == 0
    assert counts == sorted(counts)
    assert len(counts) > 3
    until(lambda: set(threading.enumerate()) <= before)


def test_an_unknown_container_ends_the_count_quietly() -> None:
    """A container that is gone before anybody asks for it is no error."""
    before = set(threading.enumerate())
    counts: list[tuple[int, int]] = []
    follow_samples(Engine(), "0" * 64, lambda *count: counts.append(count))
    until(lambda: set(threading.enumerate()) <= before)
    assert counts == []

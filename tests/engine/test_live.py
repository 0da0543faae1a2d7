import threading
from typing import TYPE_CHECKING, cast

import pytest
from requests import Response, Timeout

from runner.engine.ending import Cut
from runner.engine.live import LiveContainer, LiveContainers
from tests.conftest import until

if TYPE_CHECKING:
    from runner.engine.engine import Engine

FIRST, SECOND = Cut(why="first"), Cut(why="second")


class Refusing:
    """Stands in for an engine that refuses signals, each when it is told to."""

    base_url = api_version = ""

    def __init__(self) -> None:
        self.api = self
        self.refuse = [threading.Event(), threading.Event()]
        self._asked = iter(self.refuse)

    def post(self, *_: object, **__: object) -> Response:
        """Refuse."""
        assert next(self._asked).wait(5)
        answer = Response()
        answer.status_code = 409  # "container is not running"
        return answer

    def close(self) -> None:
        """Nothing was opened."""


@pytest.fixture
def engine() -> Refusing:
    return Refusing()


def ending(engine: Refusing, *cuts: Cut) -> LiveContainers:
    """Containers of which one is to be ended, for one reason after the other."""
    live = LiveContainers(cast("Engine", engine))
    for cut in cuts:
        live.end("c", cut, "SIGTERM")
    return live


def until_refused(engine: Refusing, number: int) -> None:
    """Let a signal be refused, and wait until nobody handles that any more."""
    before = threading.active_count()
    engine.refuse[number].set()
    until(lambda: threading.active_count() < before)


def test_a_container_that_had_ended_was_not_ended_by_us(engine: Refusing) -> None:
    """The signal came too late: its own end counts."""
    live = ending(engine, FIRST)
    until_refused(engine, 0)
    assert live.cut("c") is None


def test_a_signal_that_failed_takes_back_no_later_one(engine: Refusing) -> None:
    """Else an eval that the run kills would be blamed for its end."""
    live = ending(engine, FIRST, SECOND)
    until_refused(engine, 0)
    assert live.cut("c") is SECOND
    engine.refuse[1].set()


def test_a_signal_that_an_engine_is_slow_with_is_on_its_way(
    engine: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the eval would be blamed for an end that the run brought about."""

    def answer_late(*_: object, **__: object) -> Response:
        assert engine.refuse[0].wait(5)
        raise Timeout

    monkeypatch.setattr(engine, "post", answer_late)
    live = ending(engine, FIRST)
    until_refused(engine, 0)
    assert live.cut("c") is FIRST


def test_what_is_live_is_counted_for_as_long_as_it_is() -> None:
    """Its files may be in the way until it is removed."""
    live = LiveContainers(cast("Engine", Refusing()))
    one = LiveContainer(id="c", attempt="a", eval="e", tmp_limit=1, absences=0)
    with live.holding(one):
        assert list(live) == [one]
    assert list(live) == []

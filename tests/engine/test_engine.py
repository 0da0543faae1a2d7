import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker.errors import NotFound

from runner.engine.engine import Engine, EngineWait
from runner.errors import EnvironmentFault
from tests.conftest import Place, until
from tests.proxy import Proxy, proxied

pytestmark = pytest.mark.docker


def open_files() -> int:
    """How many files and connections this process has open."""
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


@pytest.fixture
def proxy(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Stands before the engine that the environment names."""
    with proxied(place.folder) as found:
        monkeypatch.setenv("DOCKER_HOST", found.address)
        yield found


def test_a_client_keeps_one_connection_whatever_it_asks_for() -> None:
    """Hundreds of containers must not use up the files that a process may have open."""
    api = Engine().api
    api.containers(limit=1)
    before = open_files()
    for number in range(40):
        api.containers(limit=1, filters={"label": f"evalset.none={number}"})
        answer = api.get(f"{api.base_url}/v{api.api_version}/containers/none{number}/json")
        assert answer.status_code == 404
    assert open_files() <= before


def test_an_engine_that_is_there_answers(proxy: Proxy) -> None:
    """And one that has gone does not, without an error."""
    engine = Engine()
    assert engine.answers()
    proxy.end()
    assert not engine.answers()
    proxy.begin()
    assert engine.answers()


def test_several_that_miss_the_engine_say_so_once(proxy: Proxy) -> None:
    """One looks whether it is back, the others wait for it; then each asks again."""
    said: list[str] = []
    engine = Engine()
    engine_wait = EngineWait(engine, limit=20, tell=said.append)
    proxy.end()
    answers: list[bool] = []

    def ask() -> None:
        with closing(engine.api) as api:
            answers.append(engine_wait.retry(api.ping))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: said)
    proxy.begin()
    for thread in threads:
        thread.join(20)
    assert answers == [True] * 4
    assert len(said) == 2
    assert said[0] == "the Docker engine went away; waiting up to 20 s for it"
    assert said[1].startswith("the Docker engine is back after ")


def test_who_waits_is_told_when_the_engine_does_not_come_back(proxy: Proxy) -> None:
    """Those behind the first one do not wait all over again."""
    engine = Engine()
    engine_wait = EngineWait(engine, limit=0.1, tell=lambda _: None)
    proxy.end()
    with pytest.raises(EnvironmentFault, match=r"for more than 0.1 s \(--engine-wait"):
        engine_wait.retry(engine.api.ping)
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match="the next run takes over what ran there"):
        engine_wait.retry(engine.api.ping)
    assert time.monotonic() - began < 1


def test_what_the_engine_refuses_is_no_absence() -> None:
    """An answer is an answer."""
    engine = Engine()
    engine_wait = EngineWait(engine, limit=20, tell=lambda _: pytest.fail("nobody was away"))
    with pytest.raises(NotFound):
        engine_wait.retry(lambda: engine.api.inspect_container("none"))

"""What is said of an engine that does not do its part."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from docker.errors import NotFound

from runner.engine.engine import Engine, as_environment_fault, explain
from runner.errors import EnvironmentFault


class Stranger(BaseHTTPRequestHandler):
    """Answers like a proxy that cannot reach what is behind it."""

    def do_GET(self) -> None:
        """Refuse."""
        self.send_error(502)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment names something that is no engine."""
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_what_is_no_engine_is_quoted(stranger: None) -> None:
    """With where to look for more."""
    assert stranger is None
    with pytest.raises(EnvironmentFault) as caught, as_environment_fault():
        Engine()
    said = str(caught.value)
    assert said.startswith("the Docker engine did not answer as expected: 502 ")
    assert said.endswith("; look at its own log")


def test_what_the_engine_has_lost_meanwhile_is_named() -> None:
    """One line, and what to do."""
    assert explain(NotFound("no\nsuch volume")) == (
        "the Docker engine does not know it: no such volume; run the same command again"
    )

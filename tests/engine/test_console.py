"""What a container printed is saved whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from requests.exceptions import ConnectionError as RequestsConnectionError
from urllib3.exceptions import ProtocolError

from runner.engine import docker_py
from runner.engine.container import Container
from tests.privileges import python_on_small_disk


def test_an_answer_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the engine that went away, as with any other request; the file before stays."""

    def broken(_api: object, _container: str) -> Iterator[bytes]:
        yield b"the first part"
        raise ProtocolError

    path = tmp_path / "x.console.log"
    container = Container(docker.APIClient(version="1.41"), "0123")
    monkeypatch.setattr(docker_py, "_frames", broken)
    for before in ([], [path]):
        with pytest.raises(RequestsConnectionError):
            container.save_console(path)
        assert list(tmp_path.iterdir()) == before
        path.write_text("whole")
    assert path.read_text() == "whole"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """Not even the part that was written."""
    code = """
import os, sys, pathlib, docker
from runner.engine import docker_py
from runner.engine.container import Container
folder = pathlib.Path(sys.argv[1])
docker_py.printed = lambda api, container: iter([b"x" * 10_000] * 100)
try:
    Container(None, "0123").save_console(folder / "x.console.log")
except OSError as error:
    print(error.strerror, os.listdir(folder))
"""
    ended = python_on_small_disk(code, tmp_path)
    assert ended.stdout == "No space left on device []\n", ended.stderr

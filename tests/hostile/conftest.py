import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.image.build import BASE_NAME
from runner.image.image import find_image
from runner.options import DEFAULT_IMAGE
from tests.conftest import Place, engine_api, impatient, remove_containers
from tests.images import build_image

EVALS = Path(__file__).with_name("evals")
IMAGE = "evalset/test:hostile"
PROGRAM = "/hostile/program"
DOCKERFILE = """
FROM {base}
COPY hostile /hostile
"""
# The standard library's modules without the site's, which takes a tenth of a second to start.
LAUNCHER = """\
#!/usr/bin/env -S python3 -SEB
import runpy
runpy.run_module("evals", run_name="__main__")
"""


class Hostile(Place, frozen=True):
    """A place whose evals are those of `tests/hostile/evals`."""

    def environ(self, **variables: str) -> dict[str, str]:
        """As any place's, with the hostile program, and memory for Python."""
        own = {"EVALSET_RUN_COMMAND": PROGRAM, "EVALSET_MEMORY": "256m"}
        return Place.environ(self, **{**own, **variables})

    def attack(self, *names: str, **variables: str) -> str:
        """Run these evals, whatever becomes of each; what the run printed."""
        self.registry(*names)
        ended = subprocess.run(
            self.line("--no-exit-on-error", "--jobs", "2"),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.environ(**variables),
            timeout=250,
        )
        assert ended.returncode in {0, 1}, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def hostile_image() -> str:
    """An image with the hostile program; gives its name."""
    api = engine_api()
    base = find_image(api, DEFAULT_IMAGE).labels[BASE_NAME]
    files = {f"hostile/evals/{path.name}": path.read_bytes() for path in EVALS.glob("*.py")}
    files |= {"hostile/program": LAUNCHER.encode()}
    build_image(api, IMAGE, DOCKERFILE.format(base=base), files=files)
    return IMAGE


@contextmanager
def tidied(found: Hostile) -> Iterator[Hostile]:
    """A place where nothing may be left at the end, and nothing stays."""
    try:
        yield found
    finally:
        left = found.leftovers()
        remove_containers(found.containers())
        # pytest cannot remove a deep tree.
        subprocess.run(["rm", "-rf", found.progress / ".attempts"], check=True)
    assert not left


@pytest.fixture
def hostile(tmp_path: Path, cache: Path, hostile_image: str) -> Iterator[Hostile]:
    """A place of its own for a test, where nothing may be left at its end."""
    with tidied(Hostile(tmp_path, cache, hostile_image)) as found:
        yield found


@pytest.fixture
def hurried(hostile: Hostile) -> Place:
    """The same, of a program that kills soon after it asked."""
    return impatient(hostile)

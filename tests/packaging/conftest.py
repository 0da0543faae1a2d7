import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import OURS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


class Desk(msgspec.Struct, frozen=True):
    """A user's folder, far from any checkout.

    Attributes:
        folder: where programs are run, and home.
    """

    folder: Path

    def run(self, *line: str | Path, **variables: str) -> str:
        """Run a program that is to end well; give what it printed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        kept.pop("PYTHONPATH", None)
        ended = subprocess.run(
            line,
            cwd=self.folder,
            env=kept | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a release is made of, as its workflow makes it."""
    folder = tmp_path_factory.mktemp("release")
    made = subprocess.run(
        [ROOT / "scripts/release", folder], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(release: Path) -> Path:
    """The built wheel."""
    (found,) = release.glob("dist/*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and what it needs, and no more."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    # As venv and pip make it, in a fifth of the time; the seed is pip itself.
    quiet = (BIN / "uv", "--quiet")
    python = ("--python", BIN / "python")
    subprocess.run([*quiet, "venv", "--seed", "--no-project", *python, venv], check=True)
    into = ("--python", venv / "bin/python")
    subprocess.run([*quiet, "pip", "install", "--compile-bytecode", *into, wheel], check=True)
    return venv / "bin"

import re
import subprocess

import pytest

from tests.actions.files import FOLDER, ROOT, read
from tests.packaging.test_distributions import PROJECT

COMPAT = ROOT / "scripts/compat"


def test_ci_tries_each_python_with_lowest_and_newest_dependencies() -> None:
    """Those that the package says it is for, and that `make compat` looks for."""
    matrix = read(FOLDER / "workflows/ci.yml")["jobs"]["compat"]["strategy"]["matrix"]
    text = (ROOT / "pyproject.toml").read_text()
    assert matrix["python"] == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    compat = COMPAT.read_text()
    assert f"${{1:-{' '.join(matrix['python'])}}}" in compat
    assert f"${{2:-{' '.join(matrix['dependencies'])}}}" in compat


def test_a_python_that_is_not_there_is_named() -> None:
    """With how to get it; having run nothing is no success."""
    ended = subprocess.run([COMPAT, "3.99"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        "compat: no Python 3.99 is installed; `.venv/bin/uv python install 3.99` installs it\n"
    )


def test_the_tests_that_it_runs_are_there() -> None:
    """The shell would leave out no name that leads nowhere, but pytest would not start."""
    listed = COMPAT.read_text().partition("tests=(")[2].partition("\n)")[0]
    names = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {' '.join(listed.split())}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_a_dependency_has_a_lowest_version_and_no_highest(requirement: str) -> None:
    """The lowest is what `make compat` tries; a highest would shut out what has not come yet."""
    assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement)

from pathlib import Path

import pytest

from runner.configuration import find_configuration
from runner.errors import UsageError


def test_a_table_of_pyproject_is_found(tmp_path: Path) -> None:
    """Other tools' tables next to it are theirs."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.other]\nx = 1\n[tool.evalset]\njobs = 3\n")
    assert find_configuration(tmp_path) == (path, {"jobs": 3})


def test_a_file_of_its_own_comes_first(tmp_path: Path) -> None:
    """In one folder `evalset.toml` wins over `pyproject.toml`."""
    (tmp_path / "pyproject.toml").write_text("[tool.evalset]\njobs = 3\n")
    path = tmp_path / "evalset.toml"
    path.write_text("jobs = 4\n")
    assert find_configuration(tmp_path) == (path, {"jobs": 4})


def test_the_nearest_wins(tmp_path: Path) -> None:
    """A file further up counts only where there is none nearer, and files never mix."""
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    (tmp_path / "evalset.toml").write_text("jobs = 1\nretries = 1\n")
    assert find_configuration(inner) == (tmp_path / "evalset.toml", {"jobs": 1, "retries": 1})
    (tmp_path / "a/pyproject.toml").write_text("[tool.evalset]\njobs = 2\n")
    assert find_configuration(inner) == (tmp_path / "a/pyproject.toml", {"jobs": 2})


@pytest.mark.parametrize("content", ["", "[project]\nname = 'x'\n", "tool = 1\n", "[tool.x]\n"])
def test_a_pyproject_without_our_table_is_passed_over(tmp_path: Path, content: str) -> None:
    """The search continues above it."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(content)
    (tmp_path / "evalset.toml").write_text("jobs = 1\n")
    assert find_configuration(inner) == (tmp_path / "evalset.toml", {"jobs": 1})


@pytest.mark.parametrize("name", ["evalset.toml", "pyproject.toml"])
@pytest.mark.parametrize("content", [b"jobs = = 3", b"\xff"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """The message has the file, and its exit code is a usage error's."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        find_configuration(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}: this is not valid TOML: ")
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    """`evalset = 3` below `[tool]` cannot be what was meant."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nevalset = 3\n")
    with pytest.raises(UsageError, match=r"`tool\.evalset` must be a table"):
        find_configuration(tmp_path)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """A folder, or a link that leads nowhere, configures nothing."""
    inner = tmp_path / "inner"
    (inner / "evalset.toml").mkdir(parents=True)
    (inner / "pyproject.toml").symlink_to("nowhere")
    (tmp_path / "evalset.toml").write_text("jobs = 1\n")
    assert find_configuration(inner) == (tmp_path / "evalset.toml", {"jobs": 1})

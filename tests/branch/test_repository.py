import shutil
from pathlib import Path

import pytest

from runner.branch.git import GitError, make_bare
from runner.errors import EnvironmentFault


@pytest.mark.parametrize("missing", ["objects", "refs", "HEAD", "config"])
def test_what_a_full_disk_left_of_a_new_repository_is_completed(
    tmp_path: Path, missing: str
) -> None:
    """Else every later run would stop at it."""
    place = tmp_path / "snapshots.git"
    make_bare(place, host="h")
    gone = place / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert make_bare(place, host="h").ask("rev-parse", "--is-bare-repository") == "true"


def test_what_git_cannot_complete_is_named(tmp_path: Path) -> None:
    """One line that says where, and what to do."""
    place = tmp_path / "snapshots.git"
    make_bare(place, host="h")
    (place / "config").write_text("[broken")
    with pytest.raises(EnvironmentFault, match=r"snapshots\.git"):
        make_bare(place, host="h")


def test_what_git_cannot_make_says_where_else(tmp_path: Path) -> None:
    """With what Git said of it."""
    place = tmp_path / "snapshots.git"
    (place / "config").mkdir(parents=True)
    with pytest.raises(EnvironmentFault) as caught:
        make_bare(place, host="h")
    assert str(caught.value).startswith(f"cannot make a repository at {place}: ")
    assert str(caught.value).endswith("; name another --snapshot-repo")


def test_an_object_that_is_missing_is_named(tmp_path: Path) -> None:
    """A damaged repository is told from one that has an empty file."""
    repository = make_bare(tmp_path / "snapshots.git", host="h")
    with pytest.raises(GitError, match=f"the object {'1' * 40} is missing from .*snapshots"):
        repository.read(["1" * 40])


def test_a_repository_that_was_stopped_reaches_no_remote(tmp_path: Path) -> None:
    """What works here alone still does."""
    repository = make_bare(tmp_path / "snapshots.git", host="h")
    repository.stop()
    with pytest.raises(GitError, match="the run is ending"):
        repository.run("ls-remote", str(tmp_path / "snapshots.git"), silence=5)
    assert repository.run("rev-parse", "--is-bare-repository").strip() == b"true"

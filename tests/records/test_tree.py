import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from runner.records import folders
from runner.records.folders import _some, remove_tree
from tests.privileges import python_bound_by_permissions

REMOVE = """
import sys, pathlib
from runner.records.folders import remove_tree
remove_tree(pathlib.Path(sys.argv[1]))
"""


def dig(folder: Path, levels: int, *, closed: bool = False) -> None:
    """Make folders inside one another, each with a file, deeper than a path can say."""
    code = f"""
import os
os.chdir({str(folder)!r})
for level in range({levels}):
    open("file", "w").close()
    os.mkdir("d")
    os.chdir("d")
    if {closed}: os.chmod("..", 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_tree_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    """Files, folders, pipes and links; what a link leads to stays."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    folder = tmp_path / "folder"
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/file").write_text("")
    (folder / "a/link").symlink_to(tmp_path / "kept")
    (folder / "link").symlink_to(tmp_path / "kept/file")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "a/b/pipe")
    remove_tree(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    """Nobody needs to look first."""
    remove_tree(tmp_path / "none")


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """It is no folder, and what it leads to stays."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "kept/file").exists()


def test_depth_costs_neither_stack_nor_open_files(tmp_path: Path) -> None:
    """2000 levels, with 30 files that may be open at once."""
    folder = tmp_path / "folder"
    folder.mkdir()
    dig(folder, 2000)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30)){REMOVE}"
    subprocess.run([sys.executable, "-c", limit, folder], check=True)
    assert not folder.exists()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 30


def test_closed_folders_are_opened(tmp_path: Path) -> None:
    """Their owner took every right from them, and who removes them is not root."""
    folder = tmp_path / "folder"
    folder.mkdir()
    dig(folder, 20, closed=True)
    (folder.parent / "folder").chmod(0)
    ended = python_bound_by_permissions(REMOVE, folder)
    assert ended.returncode == 0, ended.stderr
    assert not folder.exists()


def test_more_names_than_are_read_at_once_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a name that looks like one of ours is in nobody's way."""
    monkeypatch.setattr(folders, "_TOGETHER", 3)
    folder = tmp_path / "folder"
    for number in range(10):
        (folder / f".emptied-{number}/d/e").mkdir(parents=True)
        (folder / f"file-{number}").write_text("")
        (folder / f".emptied-{number}/file").write_text("")
    remove_tree(folder)
    assert not folder.exists()


def test_no_link_inside_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However deep it lies: what it leads to keeps its rights, and nothing is moved elsewhere."""
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    for place in (kept, elsewhere):
        place.mkdir()
    kept.chmod(0o750)
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "folder"
    (folder / "a/b/c").mkdir(parents=True)
    for place in (folder, folder / "a", folder / "a/b"):
        (place / "link").symlink_to(kept)
    remove_tree(folder)
    assert not folder.exists()
    assert kept.stat().st_mode & 0o777 == 0o750
    assert not list(elsewhere.iterdir())


def test_a_link_with_a_name_like_ours_is_in_nobodys_way(tmp_path: Path) -> None:
    """Though it leads nowhere."""
    folder = tmp_path / "folder"
    for number in range(30):
        (folder / f"{number}/inner").mkdir(parents=True)
        (folder / f".emptied-{number}").symlink_to("nowhere")
    remove_tree(folder)
    assert not folder.exists()


def test_names_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may have millions."""
    monkeypatch.setattr(folders, "_TOGETHER", 3)
    for number in range(5):
        (tmp_path / f"{number}").touch()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert len(_some(descriptor)) == 3
    finally:
        os.close(descriptor)

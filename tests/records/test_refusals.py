"""What the operating system refuses, wherever files are read or written."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner import files
from runner.configuration import find_configuration
from runner.errors import EnvironmentFault
from runner.files import append, make_folder, replace, sync_folder, write_whole
from runner.records.folders import private_folder
from runner.records.layout import Layout
from runner.records.progress import LineFile, read_attempts, read_progress
from runner.records.run_file import read_run_file
from runner.records.run_lock import is_held, run_lock
from runner.registry.entries import read_folder

CURE = "it is a folder; move it away"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse what would make a file of this process larger."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def refusal(act: Callable[[], object]) -> str:
    """The message of what the system refuses."""
    with pytest.raises(EnvironmentFault) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("read", [read_attempts, read_progress, read_run_file, is_held])
def test_a_folder_in_the_place_of_a_file_to_read_is_told(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """With its path and what was to be done."""
    assert refusal(lambda: read(tmp_path)) == f"cannot read {tmp_path}: {CURE}"


@pytest.mark.parametrize(
    "write",
    [
        LineFile,
        lambda path: run_lock(path).__enter__(),
        lambda path: replace(path, b""),
        lambda path: write_whole(path, [b""]),
        lambda path: append(path, b""),
    ],
)
def test_a_folder_in_the_place_of_a_file_to_write_is_told(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    """It stays, and nothing is left next to it."""
    path = tmp_path / "folder"
    path.mkdir()
    assert refusal(lambda: write(path)) == f"cannot write {path}: {CURE}"
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["evalset.toml", "pyproject.toml"])
def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    """The search does not continue above it."""
    link = tmp_path / name
    link.symlink_to("/proc/self/mem")  # a file that exists, and of which nothing can be read
    assert (
        refusal(lambda: find_configuration(tmp_path)) == f"cannot read {link}: Input/output error"
    )


def test_a_file_of_a_registry_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A folder with the name of such a file is in the way, too."""
    path = tmp_path / "evals/a.yaml"
    path.mkdir(parents=True)
    assert refusal(lambda: read_folder(tmp_path)) == f"cannot read {path}: {CURE}"


def test_a_private_folder_that_is_there_already_is_told(tmp_path: Path) -> None:
    """Two attempts never share one."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    with private_folder(layout, "1") as path:
        assert refusal(lambda: private_folder(layout, "1").__enter__()) == (
            f"cannot create the folder {path}: a file is where a folder should be; move it away"
        )


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file is in its place, or in the place of one above it."""
    path = tmp_path / "file"
    path.write_text("")
    for folder in (path, path / "below"):
        assert refusal(lambda folder=folder: make_folder(folder)) == (  # type: ignore[misc]
            f"cannot create the folder {folder}: a file is where a folder should be; move it away"
        )


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    """The part of it that was written goes, the lines before it stay, and the next may fit."""
    path = tmp_path / "lines"
    with LineFile(path) as file:
        file.add("first")
        with no_file_larger_than(20):
            message = refusal(lambda: file.add("second", "x" * 100))
            assert path.read_text() == "first\n"
            file.add("third")
    assert message == f"cannot write {path}: {os.strerror(27)}"
    assert path.read_text() == "first\nthird\n"


def test_what_does_not_fit_behind_a_file_is_taken_back(tmp_path: Path) -> None:
    """All of it is written, or nothing."""
    path = tmp_path / "file"
    append(path, b"one\n")
    append(path, b"two\n")
    with no_file_larger_than(20):
        message = refusal(lambda: append(path, b"x" * 100))
    assert message == f"cannot write {path}: {os.strerror(27)}"
    assert path.read_bytes() == b"one\ntwo\n"


def test_what_cannot_be_taken_back_is_told_as_well() -> None:
    """A device, or a pipe, has no end to go back to."""
    assert refusal(lambda: append(Path("/dev/full"), b"x")).startswith(
        "cannot write /dev/full: the disk is full; free some space"
    )


def test_a_folder_that_cannot_be_synced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken disk shows there."""

    def broken(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_folder", broken)
    path = tmp_path / "file"
    assert refusal(lambda: replace(path, b"")) == f"cannot write {path}: Input/output error"


@pytest.mark.parametrize("write", [replace, lambda path, content: write_whole(path, [content])])
def test_a_file_that_does_not_fit_leaves_the_old_one(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    """The part of the new one that was written goes."""
    path = tmp_path / "file"
    write(path, b"old")
    with no_file_larger_than(20):
        message = refusal(lambda: write(path, b"x" * 10_000))
    assert message == f"cannot write {path}: {os.strerror(27)}"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_alone_can_be_synced(tmp_path: Path) -> None:
    """A file in its place would be another thing's names."""
    sync_folder(tmp_path)
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(NotADirectoryError):
        sync_folder(path)


def test_new_files_have_the_rights_that_the_users_mask_leaves(tmp_path: Path) -> None:
    """To read and to write, and nobody runs them."""
    mask = os.umask(0o022)
    try:
        with LineFile(tmp_path / "lines"), run_lock(tmp_path / "lock"):
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys(("lines", "lock", "lock.holder.json"), 0o644)

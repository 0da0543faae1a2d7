"""How much of what a container leaves is taken, and how it is told what was not."""

import os
from pathlib import Path
from typing import Any

import pytest

from runner.records import folders
from runner.records.folders import Collected, collect, private_folder
from runner.records.layout import Layout

ATTEMPT = "250101000000ABCDEFGH"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "progress", model="m", eval_set="s")


@pytest.fixture
def left(layout: Layout) -> Path:
    """The `/tmp/evallogs` of a container that ended."""
    with private_folder(layout, ATTEMPT) as private:
        folder = private / "evallogs"
        folder.mkdir()
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(("links", "rest"), [(20, ()), (21, ("evallogs: 1 more were left out",))])
def test_warnings_are_only_counted_after_the_twentieth(
    layout: Layout, left: Path, links: int, rest: tuple[str, ...]
) -> None:
    """A record has all of them, and everybody reads it."""
    for number in range(links):
        (left / f"{number}").symlink_to("x")
    warnings = collect(layout, ATTEMPT).warnings
    assert all("it is not a plain file" in warning for warning in warnings[:20])
    assert warnings[20:] == rest


def test_what_has_too_long_a_path_is_left_out(layout: Layout, left: Path) -> None:
    """And what comes after it is not."""
    folder = "/".join("f" * 200 for _ in range(4))
    put(left, f"{folder}/{'a' * 221}", f"{folder}/{'b' * 220}", "z")
    assert collect(layout, ATTEMPT) == Collected(
        logs=(f"evallogs/{folder}/{'b' * 220}", "evallogs/z"),
        warnings=(f"evallogs: {'a' * 221!r} was left out because its path is too long",),
    )


def test_a_file_that_is_a_hole_is_left_out(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill the disk that it is copied to; a small one does not."""
    monkeypatch.setattr(folders, "LARGEST_SPARSE", 2_000_000)
    for name, size in (("hole", 2_000_001), ("small", 2_000_000)):
        with (left / name).open("wb") as file:
            file.truncate(size)
    put(left, "z")
    why = "it says to have 2000001 bytes, and hardly any are there"
    assert collect(layout, ATTEMPT) == Collected(
        logs=("evallogs/small", "evallogs/z"),
        warnings=(f"evallogs: 'hole' was left out: {why}",),
    )


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_is_a_hole_with_less_than_a_hundredth_of_its_size(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """A file system may pack what is there."""
    monkeypatch.setattr(folders, "LARGEST_SPARSE", 1000)
    with (left / "a").open("wb") as file:
        file.write(b"x" * 65536)
        file.flush()
        os.fsync(file.fileno())
        file.truncate(os.fstat(file.fileno()).st_blocks * 512 * 100 + more)
    assert len(collect(layout, ATTEMPT).warnings) == more


def test_a_name_of_a_file_that_the_runner_writes_is_left_out(layout: Layout, left: Path) -> None:
    """Such a file is deleted one day; others that resemble it are not."""
    put(left, ".a.new", ".a", "a.new", ".new.a", "z")
    found = collect(layout, ATTEMPT)
    assert found.logs == ("evallogs/.a", "evallogs/.new.a", "evallogs/a.new", "evallogs/z")
    assert found.warnings == (
        "evallogs: '.a.new' was left out: the runner writes to files with such names",
    )


def test_a_log_gets_the_name_that_may_be_recorded(layout: Layout, left: Path) -> None:
    """A container may have put what it was passed in there."""
    put(left, "r/hush_a.jsonl")
    found = collect(layout, ATTEMPT, shown=lambda name: name.replace("hush", "***"))
    assert found == Collected(logs=("evallogs/r/***_a.jsonl",))
    assert (layout.root / found.logs[0]).read_text() == "r/hush_a.jsonl"


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("1", "2", "3", "4"), 4),
        (("1", "2", "3", "4", "5"), 4),
        (("a/1", "a/2", "z"), 3),
        (("a/1", "a/2", "b/1"), 2),
        (("a/1", "b/1", "b/2"), 2),
        (("a/b/1", "a/b/2"), 2),
        (("a/b/1", "a/b/2", "a/b/3"), 2),
    ],
)
def test_only_so_many_files_and_folders_are_looked_at(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], taken: int
) -> None:
    """There may be millions; folders count as files do, wherever they are."""
    monkeypatch.setattr(folders, "MOST_ENTRIES", 4)
    put(left, *names)
    found = collect(layout, ATTEMPT)
    assert found.logs == tuple(f"evallogs/{name}" for name in names[:taken])
    told = "evallogs: of more than 4 files and folders the rest was left out"
    assert set(found.warnings) == ({told} if taken < len(names) else set())


def test_a_folder_that_cannot_be_read_keeps_no_other_from_it(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken disk, or a mode that the container has set."""
    put(left, "a/1", "b/1", "c/1")
    scan = os.scandir

    def refuse(path: Path) -> Any:  # noqa: ANN401 - what os.scandir gives
        if path == left / "b":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert collect(layout, ATTEMPT) == Collected(
        logs=("evallogs/a/1", "evallogs/c/1"),
        warnings=("evallogs: a folder cannot be read (Permission denied) and was left out",),
    )


def test_folders_too_deep_keep_no_other_from_being_read(layout: Layout, left: Path) -> None:
    """Those next to them are taken."""
    put(left, "/".join("a" * 9) + "/1", "b/1")
    assert collect(layout, ATTEMPT) == Collected(
        logs=("evallogs/b/1",),
        warnings=("evallogs: folders more than 8 deep were left out",),
    )


def test_without_hard_links_a_log_is_moved(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have none."""

    def refuse(*_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    put(left, "a")
    assert collect(layout, ATTEMPT) == Collected(logs=("evallogs/a",))
    assert (layout.evallogs / "a").read_text() == "a"
    assert not list(left.iterdir())


def test_the_longest_name_that_a_file_may_have_is_taken(layout: Layout, left: Path) -> None:
    """If nothing has it yet; then there is no room for a longer one next to it."""
    put(left, "n" * 255)
    assert collect(layout, ATTEMPT).logs == (f"evallogs/{'n' * 255}",)
    (left / ("n" * 255)).unlink()
    put(left, "n" * 255)
    assert collect(layout, ATTEMPT) == Collected(
        warnings=(f"evallogs: {'n' * 255!r} was left out: files of its name are there already",)
    )

import os
import socket
from pathlib import Path

import pytest

from runner.records import folders
from runner.records.folders import (
    DEEPEST_FOLDER,
    Collected,
    collect,
    private_folder,
    remove_private,
)
from runner.records.layout import Layout
from tests.privileges import python_bound_by_permissions

ATTEMPT = "250101000000ABCDEFGH"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "progress", model="m", eval_set="s")


def make_private(layout: Layout, attempt: str) -> Path:
    """A private folder as an attempt that got its container has it."""
    with private_folder(layout, attempt) as folder:
        return folder


@pytest.fixture
def left(layout: Layout) -> Path:
    """The `/tmp/evallogs` of a container that ended."""
    folder = make_private(layout, ATTEMPT) / "evallogs"
    folder.mkdir()
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def only_warning(found: Collected) -> str:
    """The warning on the one thing that was left out, when nothing was taken."""
    assert found.logs == ()
    (warning,) = found.warnings
    assert warning.isprintable()
    return warning


def test_logs_get_their_place(layout: Layout, left: Path) -> None:
    """A `/` in a model's name has made a subfolder, which stays one."""
    (left / "r_org").mkdir()
    (left / "r_org/m_a.jsonl").write_text("1")
    (left / "r_m_a.jsonl").write_text("2")
    found = collect(layout, ATTEMPT)
    assert found == Collected(logs=("evallogs/r_m_a.jsonl", "evallogs/r_org/m_a.jsonl"))
    assert (layout.evallogs / "r_org/m_a.jsonl").read_text() == "1"
    assert (layout.evallogs / "r_m_a.jsonl").read_text() == "2"


@pytest.mark.parametrize("make_it", ["no folder", "a file", "a link"])
def test_without_a_folder_of_logs_there_is_nothing(layout: Layout, make_it: str) -> None:
    """An eval need not write any, and a link in the folder's place is not followed."""
    place = make_private(layout, ATTEMPT) / "evallogs"
    if make_it == "a file":
        place.write_text("")
    elif make_it == "a link":
        place.symlink_to("/etc")
    assert collect(layout, ATTEMPT) == Collected()
    assert not layout.evallogs.exists()


def test_a_link_is_left_out(layout: Layout, left: Path, tmp_path: Path) -> None:
    """What the container's code chose to point at is never read."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (left / "r.jsonl").symlink_to(secret)
    assert only_warning(collect(layout, ATTEMPT)) == (
        "evallogs: 'r.jsonl' was left out: it is not a plain file"
    )
    assert tree(layout.evallogs) == []


def test_a_link_to_a_folder_is_not_entered(layout: Layout, left: Path, tmp_path: Path) -> None:
    """As for a link to a file."""
    (tmp_path / "secret.jsonl").write_text("secret")
    (left / "folder").symlink_to(tmp_path)
    assert "'folder' was left out" in only_warning(collect(layout, ATTEMPT))


def test_a_pipe_and_a_socket_are_left_out(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening one would wait for ever."""
    os.mkfifo(left / "pipe.jsonl")
    monkeypatch.chdir(left)  # a socket's path has room for 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jsonl")
    found = collect(layout, ATTEMPT)
    assert found.logs == ()
    assert len(found.warnings) == 2
    assert all("is not a plain file" in warning for warning in found.warnings)


def test_a_file_with_a_second_name_is_left_out(layout: Layout, left: Path) -> None:
    """A hard link could give the container's code a hand in the records, later on."""
    (left / "r.jsonl").write_text("x")
    (left.parent / "second").hardlink_to(left / "r.jsonl")
    assert "'r.jsonl' was left out: it has several names" in only_warning(collect(layout, ATTEMPT))


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[2J", b"\xff\xfe", "\u202e".encode(), b"a\tb"])
def test_a_name_that_cannot_be_printed_is_left_out(layout: Layout, left: Path, name: bytes) -> None:
    """No terminal and no script that lists the logs may be hurt by it."""
    Path(os.fsdecode(os.fsencode(left) + b"/" + name)).write_text("x")
    assert "left out: its name is not printable" in only_warning(collect(layout, ATTEMPT))


def test_what_is_there_is_never_replaced(layout: Layout, left: Path) -> None:
    """A log whose name is taken gets the attempt's id before it."""
    layout.evallogs.mkdir(parents=True)
    (layout.evallogs / "r.jsonl").write_text("old")
    (left / "r.jsonl").write_text("new")
    found = collect(layout, ATTEMPT)
    assert found == Collected(logs=(f"evallogs/{ATTEMPT}_r.jsonl",))
    assert (layout.evallogs / "r.jsonl").read_text() == "old"
    assert (layout.evallogs / f"{ATTEMPT}_r.jsonl").read_text() == "new"


def test_a_link_in_a_logs_place_is_not_followed(layout: Layout, left: Path) -> None:
    """Not even one that leads nowhere: nothing is created at its end."""
    layout.evallogs.mkdir(parents=True)
    (layout.evallogs / "r.jsonl").symlink_to("elsewhere")
    (left / "r.jsonl").write_text("new")
    assert collect(layout, ATTEMPT).logs == (f"evallogs/{ATTEMPT}_r.jsonl",)
    assert not (layout.evallogs / "elsewhere").exists()


def test_a_log_both_of_whose_names_are_taken_is_left_out(layout: Layout, left: Path) -> None:
    """An eval's choice of names does not break the run off."""
    layout.evallogs.mkdir(parents=True)
    for name in ("r.jsonl", f"{ATTEMPT}_r.jsonl"):
        (layout.evallogs / name).write_text("old")
    (left / "r.jsonl").write_text("new")
    assert "'r.jsonl' was left out" in only_warning(collect(layout, ATTEMPT))


def test_a_name_too_long_to_be_put_next_to_another_is_left_out(layout: Layout, left: Path) -> None:
    """As a name that is taken."""
    name = "n" * 255
    layout.evallogs.mkdir(parents=True)
    (layout.evallogs / name).write_text("old")
    (left / name).write_text("new")
    assert "was left out" in only_warning(collect(layout, ATTEMPT))
    assert tree(layout.evallogs) == [name]


def test_a_folder_whose_place_a_file_has_is_left_out(layout: Layout, left: Path) -> None:
    """Else an attempt could keep each later one of its eval from being recorded."""
    layout.evallogs.mkdir(parents=True)
    (layout.evallogs / "r").write_text("old")
    (left / "r").mkdir()
    (left / "r/m.jsonl").write_text("new")
    assert only_warning(collect(layout, ATTEMPT)) == (
        "evallogs: 'm.jsonl' was left out: a file is where its folder should be"
    )


def test_folders_without_end_are_left_out(layout: Layout, left: Path) -> None:
    """What lies deeper than any model's name has slashes."""
    place = left
    for _ in range(50):
        place /= "deeper"
        place.mkdir()
        (place / "x.jsonl").write_text("x")
    found = collect(layout, ATTEMPT)
    assert len(found.logs) == DEEPEST_FOLDER
    assert found.warnings == ("evallogs: folders more than 8 deep were left out",)


def test_files_without_number_are_left_out(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken is bounded, and the warning says so."""
    monkeypatch.setattr(folders, "MOST_FILES", 3)
    for number in range(5):
        (left / f"{number}.jsonl").write_text("x")
    found = collect(layout, ATTEMPT)
    assert found.logs == ("evallogs/0.jsonl", "evallogs/1.jsonl", "evallogs/2.jsonl")
    assert found.warnings == ("evallogs holds more than 3 files; the rest was left out",)


def test_collecting_again_after_a_crash_changes_nothing(layout: Layout, left: Path) -> None:
    """The files keep their second name until the private folder goes, and are found again."""
    layout.evallogs.mkdir(parents=True)
    (layout.evallogs / "taken.jsonl").write_text("old")
    for name in ("taken.jsonl", "free.jsonl"):
        (left / name).write_text("new")
    first = collect(layout, ATTEMPT)
    before = tree(layout.evallogs)
    assert collect(layout, ATTEMPT) == first
    assert tree(layout.evallogs) == before
    remove_private(layout, ATTEMPT)
    assert tree(layout.evallogs) == before
    assert (layout.evallogs / "free.jsonl").stat().st_nlink == 1


def test_no_file_keeps_the_rights_that_the_container_gave_it(layout: Layout, left: Path) -> None:
    """A setuid bit of a container that runs as root would be root's outside, too."""
    path = left / "r.jsonl"
    path.write_text("x")
    path.chmod(0o6777)
    collect(layout, ATTEMPT)
    assert (layout.evallogs / "r.jsonl").stat().st_mode & 0o7777 == 0o644


def test_a_log_that_nobody_may_read_is_taken(layout: Layout, left: Path) -> None:
    """The user owns it, whatever the container made of its rights."""
    (left / "r.jsonl").write_text("x")
    (left / "r.jsonl").chmod(0)
    code = """
import sys, pathlib
from runner.records.folders import collect
from runner.records.layout import Layout
layout = Layout(root=pathlib.Path(sys.argv[1]), model="m", eval_set="s")
print(*collect(layout, sys.argv[2]).logs)
"""
    ended = python_bound_by_permissions(code, layout.root, ATTEMPT)
    assert ended.stdout == "evallogs/r.jsonl\n", ended.stderr


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_closed_folder_is_left_out(layout: Layout, left: Path, mode: int) -> None:
    """Neither one that cannot be listed nor one that cannot be entered stops the runner."""
    (left / "r").mkdir()
    (left / "r/m.jsonl").write_text("x")
    (left / "r").chmod(mode)
    code = """
import sys, pathlib
from runner.records.folders import collect, remove_private
from runner.records.layout import Layout
layout = Layout(root=pathlib.Path(sys.argv[1]), model="m", eval_set="s")
found = collect(layout, sys.argv[2])
print(*found.logs, *found.warnings)
remove_private(layout, sys.argv[2])
print(layout.private(sys.argv[2]).exists())
"""
    ended = python_bound_by_permissions(code, layout.root, ATTEMPT)
    said, exists = ended.stdout.splitlines()
    assert "(Permission denied) and was left out" in said
    assert exists == "False"

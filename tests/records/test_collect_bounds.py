"""What is taken, looked at and said of what a container left has an end."""

from pathlib import Path

import pytest

from runner.records import folders
from runner.records.folders import MOST_WARNINGS, collect
from runner.records.layout import Layout
from tests.records.test_collect import ATTEMPT, only_warning


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "progress", model="m", eval_set="s")


@pytest.fixture
def left(layout: Layout) -> Path:
    """The `/tmp/evallogs` of a container that ended."""
    folder = layout.private(ATTEMPT) / "evallogs"
    folder.mkdir(parents=True)
    return folder


def test_a_name_that_the_runner_uses_is_left_out(layout: Layout, left: Path) -> None:
    """It could be in the way of a console log that is being written."""
    (left / ".x.new").write_text("")
    assert "the runner writes to files with such names" in only_warning(collect(layout, ATTEMPT))


def test_a_hole_is_left_out(layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that says to be large, and has next to nothing in it; a real one is taken."""
    monkeypatch.setattr(folders, "LARGEST_SPARSE", 2**20)
    with (left / "hole.jsonl").open("wb") as file:
        file.truncate(2**30)
    assert "1073741824 bytes, and hardly any are there" in only_warning(collect(layout, ATTEMPT))
    (left / "hole.jsonl").unlink()
    (left / "real.jsonl").write_bytes(b"x" * 2**21)
    assert collect(layout, ATTEMPT).logs == ("evallogs/real.jsonl",)


def test_warnings_are_bounded(layout: Layout, left: Path) -> None:
    """The rest is counted, because a record has all of them."""
    for number in range(MOST_WARNINGS + 7):
        (left / f"{number}").symlink_to("x")
    found = collect(layout, ATTEMPT)
    assert len(found.warnings) == MOST_WARNINGS + 1
    assert found.warnings[-1] == "evallogs: 7 more were left out"


def test_so_much_is_looked_at_and_no_more(
    layout: Layout, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all folders together."""
    monkeypatch.setattr(folders, "MOST_ENTRIES", 10)
    for folder in ("a", "b", "c"):
        (left / folder).mkdir()
        for number in range(6):
            (left / folder / f"{number}.jsonl").write_text("")
    found = collect(layout, ATTEMPT)
    assert len(found.logs) == 7
    assert found.warnings == (
        "evallogs: of more than 10 files and folders the rest was left out",
        "evallogs: of more than 10 files and folders the rest was left out",
    )


def test_a_path_that_no_model_has_is_left_out(layout: Layout, left: Path) -> None:
    """A record has all paths, and a thousand logs may have long ones."""
    folder = left.joinpath(*["d" * 200] * 6)
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text("")
    assert "its path is too long" in only_warning(collect(layout, ATTEMPT))


def test_a_log_gets_the_name_that_may_be_recorded(layout: Layout, left: Path) -> None:
    """Of two that would be called alike, one gets the attempt's id before it."""
    for secret in ("one", "two"):
        (left / f"{secret}.jsonl").write_text(secret)
    found = collect(layout, ATTEMPT, shown=lambda _: "***.jsonl")
    assert found.logs == ("evallogs/***.jsonl", f"evallogs/{ATTEMPT}_***.jsonl")
    assert found.warnings == ()
    assert collect(layout, ATTEMPT, shown=lambda _: "***.jsonl") == found

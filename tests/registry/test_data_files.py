import hashlib
import os
from pathlib import Path

import pytest

from runner.registry.content import DataFiles, astray

PLACE = "/registry/0"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A registry folder with data."""
    folder = tmp_path / "own"
    for name in ("a.jsonl", "set/one.jsonl", "set/deep/two.jsonl"):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "secret").write_text("outside")
    return folder


def found(own: Path, text: str) -> str | None:
    return DataFiles({PLACE: own}).hash_of(PLACE, text)


def test_a_file_below_data_has_its_sha256(own: Path) -> None:
    """Under the name that upstream finds it by."""
    assert found(own, "a.jsonl") == hashlib.sha256(b"a.jsonl").hexdigest()
    assert found(own, "set/../a.jsonl") == found(own, "a.jsonl")


def test_a_path_in_the_container_is_followed(own: Path, tmp_path: Path) -> None:
    """An entry may name it whole, in its own folder or in another."""
    other = tmp_path / "other"
    files = DataFiles({PLACE: own, "/registry/1": other})
    assert files.hash_of("/registry/1", f"{PLACE}/data/a.jsonl") == found(own, "a.jsonl")


def test_a_folder_counts_with_names_and_content(own: Path) -> None:
    """Whatever changes in it is another hash; where it lies does not count."""
    before = found(own, "set")
    assert before == found(own, "set/")
    two = own / "data/set/deep/two.jsonl"
    two.write_text("changed")
    changed = found(own, "set")
    two.rename(two.with_name("three.jsonl"))
    assert len({before, changed, found(own, "set")}) == 3


def test_a_folder_counts_whatever_its_files_are_called(own: Path) -> None:
    """A name need not be text."""
    before = found(own, "set")
    (own / "data/set" / os.fsdecode(b"\xff.jsonl")).write_text("x")
    assert found(own, "set") not in {before, None}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../..",
        "../../secret",
        "/etc/passwd",
        "/a.jsonl",
        "/set",
        "/registry/1/data/a.jsonl",
        "missing.jsonl",
        "a.jsonl/below",
        "Answer the question:\n",
        "x" * 5000,
        "nul\0byte",
    ],
)
def test_a_text_that_names_no_data_has_no_hash(own: Path, text: str) -> None:
    """Most arguments are numbers, prompts and names; and nothing outside the folder is read."""
    assert found(own, text) is None


def test_what_is_no_plain_file_has_no_hash(own: Path) -> None:
    """A link that leads nowhere is not there; a link to data is that data."""
    (own / "data/link").symlink_to("gone")
    (own / "data/alias").symlink_to("a.jsonl")
    assert found(own, "link") is None
    assert found(own, "alias") == found(own, "a.jsonl")


def test_a_file_is_read_once(own: Path) -> None:
    """Many evals name the same data."""
    files = DataFiles({PLACE: own})
    before = files.hash_of(PLACE, "a.jsonl")
    (own / "data/a.jsonl").unlink()
    assert files.hash_of(PLACE, "a.jsonl") == before


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("data/a.jsonl", "own/data/a.jsonl"),
        ("own/data/set", "own/data/set"),
        ("./secret", "secret"),
        ("top", "top"),
        ("work", "here/work"),
        ("above", None),
        ("gone", None),
        ("a\0b", None),
        ("a" * 5000, None),
    ],
)
def test_data_are_found_from_the_folder_up_to_its_repository(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, where: str | None
) -> None:
    """And where people are; not above the repository, or above the next folder without one."""
    top = tmp_path / "repository"
    folder = top / "deep" / "own"
    folder.parent.mkdir(parents=True)
    own.rename(folder)
    (tmp_path / "secret").rename(top / "deep/secret")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (top / "top", tmp_path / "above", tmp_path / "here/work"):
        path.touch()
    (top / ".git").touch()  # a work tree has a file there
    places = {None: None, "here/work": tmp_path / "here/work", "top": top / "top"}
    expected = places.get(where, top / "deep" / str(where))
    assert astray(folder, text) == expected
    (top / ".git").unlink()
    assert astray(folder, text) == (None if text == "top" else expected)

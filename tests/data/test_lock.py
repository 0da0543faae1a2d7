import os
from pathlib import Path

import pytest

from runner.data.lock import DataLock, add_locks, lock_of, look_through, parse_locks
from runner.errors import UsageError

COMMIT = "0123456789" * 4


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """What the hub's clients leave of a small data set."""
    folder = tmp_path / "data"
    repository = folder / "hf/hub/datasets--me--words"
    for path, text in {
        "refs/main": COMMIT,
        "blobs/abc": "one\n",
        f".no_exist/{COMMIT}/other": "",
    }.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    snapshot = repository / f"snapshots/{COMMIT}"
    snapshot.mkdir(parents=True)
    (snapshot / "words").symlink_to("../../blobs/abc")
    (folder / "hf/hub/.locks").mkdir()
    (folder / "hf/hub/.locks/a.lock").touch()
    return folder


def test_a_lock_has_revisions_files_and_links_but_no_clutter(fetched: Path) -> None:
    """Locks and marks of libraries differ from time to time, and no run needs them."""
    lock = lock_of(fetched, "words", "key")

    assert lock.revisions == {"datasets/me/words": {"main": COMMIT}}
    assert [Path(path).name for path in lock.paths] == ["abc", "main", "words"]
    assert lock.files[-1].link == "../../blobs/abc"
    assert lock.size == len("one\n") + len(COMMIT)
    assert not (fetched / "hf/hub/.locks").exists()
    assert not list(fetched.rglob(".no_exist"))


def test_the_hash_is_that_of_what_is_there(fetched: Path) -> None:
    """The same content gives the same hash; another name, byte or link another one."""
    first = lock_of(fetched, "words", "key").sha256
    assert lock_of(fetched, "other", "other").sha256 == first
    blob = fetched / "hf/hub/datasets--me--words/blobs/abc"

    blob.write_text("two\n")
    changed = lock_of(fetched, "words", "key").sha256
    blob.rename(blob.with_name("abd"))
    renamed = lock_of(fetched, "words", "key").sha256

    assert len({first, changed, renamed}) == 3


def test_nothing_fetched_has_no_hash(tmp_path: Path) -> None:
    """Folders alone are no data, nor is a folder that is not there."""
    (tmp_path / "data/hf").mkdir(parents=True)
    for folder in (tmp_path / "data", tmp_path / "nowhere"):
        lock = lock_of(folder, "words", "key")
        assert (lock.sha256, lock.files) == ("", ())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../..", "../data/../../x"])
def test_links_that_lead_elsewhere_are_refused(fetched: Path, target: str) -> None:
    """Wherever they are from, a run would follow them."""
    (fetched / "link").symlink_to(target)

    with pytest.raises(UsageError, match="a link among its data that leads elsewhere: link"):
        look_through(fetched, "words")


def test_a_folder_behind_a_link_is_not_looked_into(fetched: Path) -> None:
    """It counts once, where it is."""
    (fetched / "again").symlink_to("hf")

    paths = [file.path for file in look_through(fetched, "words")]

    assert "again" in paths
    assert not [path for path in paths if path.startswith("again/")]


def test_a_pipe_is_refused_and_not_read(fetched: Path) -> None:
    """To read it would wait for ever."""
    os.mkfifo(fetched / "pipe")

    with pytest.raises(UsageError, match="pipe among its data, which is neither"):
        look_through(fetched, "words")


def test_a_lock_file_is_added_to_once(tmp_path: Path, fetched: Path) -> None:
    """A line stays as it is, also one that a later version wrote."""
    path = tmp_path / "m.s.data.jsonl"
    later = b'{"version":2,"eval":[]}\n'
    path.write_bytes(later)
    lock = lock_of(fetched, "words", "key")

    add_locks(path, [lock, lock])
    add_locks(path, [lock])

    assert path.read_bytes() == later + lock.line
    assert parse_locks(path.read_bytes()) == {("words", lock.sha256): lock}


def test_what_is_no_lock_is_passed_over() -> None:
    """A torn line, or another file's."""
    lock = DataLock(eval="a", key="k", sha256="s")

    assert parse_locks(b"{}\n[1\n" + lock.line + lock.line[:10]) == {("a", "s"): lock}

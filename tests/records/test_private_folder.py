import fcntl
import os
import time
from pathlib import Path

import pytest

from runner.records.folders import private_folder, remove_orphans, remove_private, remove_unused
from runner.records.layout import Layout

ATTEMPT = "250101000000ABCDEFGH"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "progress", model="m", eval_set="s")


def make_private(layout: Layout, attempt: str) -> Path:
    """A private folder as an attempt that got its container has it."""
    with private_folder(layout, attempt) as folder:
        return folder


def test_the_private_folder_is_closed_to_others(layout: Layout) -> None:
    """Other users of the host see nothing of what an eval has in its /tmp."""
    with private_folder(layout, ATTEMPT) as folder:
        assert folder.stat().st_mode & 0o7777 == 0o700
    assert folder.stat().st_mode & 0o7777 == 0o1700


def test_removing_takes_the_folder_above_only_when_it_is_empty(layout: Layout) -> None:
    """Other attempts may be running."""
    make_private(layout, "1")
    make_private(layout, "2")
    remove_private(layout, "1")
    assert [path.name for path in (layout.root / ".attempts").iterdir()] == ["2"]
    remove_private(layout, "2")
    assert not (layout.root / ".attempts").exists()


def test_removing_follows_no_link(layout: Layout, tmp_path: Path) -> None:
    """A link in the private folder goes; what it points at stays."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (make_private(layout, ATTEMPT) / "link").symlink_to(kept)
    remove_private(layout, ATTEMPT)
    assert (kept / "file").exists()


def test_only_old_private_folders_without_a_container_are_swept(layout: Layout) -> None:
    """A young one may have it on another engine."""
    for name in ("old", "full", "young", "has-a-container"):
        make_private(layout, name)
    for name in ("full", "young"):
        (layout.private(name) / "x").write_text("x")
    hours = {"old": 30, "full": 30, "young": 20, "has-a-container": 30}
    for name, ago in hours.items():
        then = time.time() - ago * 3600
        os.utime(layout.private(name), (then, then))
    remove_orphans(layout.root, ["has-a-container"])
    left = sorted(path.name for path in (layout.root / ".attempts").iterdir())
    assert left == ["has-a-container", "young"]


def test_the_folder_of_a_run_that_was_killed_before_it_made_a_container_goes(
    layout: Layout,
) -> None:
    """Nobody holds it, and it never had one."""
    layout.private("killed").mkdir(parents=True)
    make_private(layout, "has-one-on-another-engine")
    remove_unused(layout.root)
    left = [path.name for path in (layout.root / ".attempts").iterdir()]
    assert left == ["has-one-on-another-engine"]


def test_the_folder_of_a_live_run_stays_while_it_makes_the_container(layout: Layout) -> None:
    """Another run that looks for orphans at that moment leaves it alone."""
    with private_folder(layout, "new") as folder:
        remove_unused(layout.root)
        assert folder.exists()
    with pytest.raises(OSError, match="refused"), private_folder(layout, "second"):
        raise OSError("refused")
    remove_unused(layout.root)
    assert [path.name for path in (layout.root / ".attempts").iterdir()] == ["new"]


def test_sweeping_where_nothing_ran_is_no_error(layout: Layout) -> None:
    """There is no such folder then."""
    remove_orphans(layout.root, ["has-a-container"])
    assert not layout.root.exists()


def test_a_folder_that_a_cleanup_takes_before_it_is_locked_is_made_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cleanup of another process takes it for a leftover; the attempt gets one all the same."""
    lock = fcntl.flock
    taken: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            taken[0].rmdir()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with private_folder(layout, ATTEMPT) as folder:
        assert taken == [folder]
        assert folder.is_dir()

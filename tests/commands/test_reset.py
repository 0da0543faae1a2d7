from pathlib import Path

import pytest

from runner.commands.reset import reset
from runner.errors import LockHeld
from runner.host import new_id, this_host
from runner.records.layout import Layout, keep_dated
from runner.records.run_lock import run_lock


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A model and a set with all three files."""
    found = Layout(root=tmp_path, model="org/m", eval_set="s")
    for path in found.kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return found


def test_every_file_that_tells_what_was_done_is_set_aside(layout: Layout) -> None:
    """All under one date, each with its content, and again when there is more."""
    moved = keep_dated(layout.kept)
    assert [path.read_text() for path in moved] == [path.name for path in layout.kept]
    assert len({path.name.rpartition("Z")[0][-22:] for path in moved}) == 1
    assert not any(path.exists() for path in layout.kept)
    assert keep_dated(layout.kept) == []


def test_files_of_another_set_stay(layout: Layout) -> None:
    """Names that begin alike included."""
    other = layout.progress.with_name("m.s.more.progress.txt")
    other.write_text("x")
    keep_dated(layout.kept)
    assert other.exists()


def test_files_that_a_live_run_writes_are_left_alone(layout: Layout) -> None:
    """The message says who it is."""
    with run_lock(layout.lock), pytest.raises(LockHeld, match="another run of this model"):
        reset(layout.root, "org/m", "s", this_host(), new_id=new_id, warn=print)
    assert all(path.exists() for path in layout.kept)

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.records.folders import temporary_folder

HOLD = """
from runner.records.folders import temporary_folder
with temporary_folder("snapshots") as folder:
    (folder / "index").write_text("x")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def holding() -> tuple["subprocess.Popen[str]", Path]:
    """Another process that has such a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_the_folder_goes_with_its_block() -> None:
    """Also with what is in it."""
    with temporary_folder("snapshots") as folder:
        (folder / "below").mkdir()
    assert not folder.exists()


def test_what_a_killed_process_left_is_deleted() -> None:
    """Else each killed run would leave an index of the whole branch."""
    process, left = holding()
    with process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.exists()
    with temporary_folder("snapshots"):
        assert not left.exists()


def test_what_was_started_in_a_leftover_can_be_ended_before_it_goes() -> None:
    """Nobody would find it afterwards; what a live process has is not ended."""
    (dead, left), (alive, theirs) = holding(), holding()
    with dead, alive:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        ended: list[tuple[Path, bool]] = []
        with temporary_folder(
            "snapshots", before_removal=lambda it: ended.append((it, it.exists()))
        ):
            assert ended == [(left, True)]
            assert not left.exists()
            assert theirs.exists()
        alive.communicate("\n")


def test_what_a_live_process_has_stays() -> None:
    """Several commands may work at once."""
    process, theirs = holding()
    with process:
        with temporary_folder("snapshots"):
            assert (theirs / "index").exists()
        process.communicate("\n")
    assert process.returncode == 0
    assert not theirs.exists()


def test_a_link_of_that_name_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write to the folder for temporary files could point it anywhere."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "evalset-snapshots-link").symlink_to(kept)
    with temporary_folder("snapshots"):
        assert os.path.lexists(tmp_path / "evalset-snapshots-link")
    assert kept.exists()

import errno
import os
import shutil
from pathlib import Path

import pytest

from runner import files
from runner.errors import EnvironmentFault
from runner.files import Used, room, used

# Of memory, with a limit to the number of its files; and one that has neither bytes nor such limit.
LIMITED, UNLIMITED = Path("/dev/shm"), Path("/proc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def put_du(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A `du` of this kind, and no other program."""
    program = place / "bin/du"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def test_a_folder_takes_what_its_files_take_on_the_disk(folder: Path) -> None:
    """Each once, however many names it has, and nothing for holes."""
    (folder / "a").mkdir()
    (folder / "a/full").write_bytes(os.urandom(200_000))
    (folder / "second name").hardlink_to(folder / "a/full")
    with (folder / "hole").open("wb") as file:
        file.truncate(2**40)
    found = used(folder)
    assert found
    assert 200_000 <= found.size < 300_000
    assert found.files == 4


def test_a_folder_that_is_gone_takes_nothing(folder: Path) -> None:
    """Its attempt may have ended meanwhile."""
    assert used(folder / "none") == Used(size=0, files=0)


def test_a_folder_may_be_called_like_an_option(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured all the same."""
    monkeypatch.chdir(folder)
    (folder / "--max-depth=0").mkdir()
    (folder / "--max-depth=0/file").touch()
    found = used(Path("--max-depth=0"))
    assert found
    assert found.files == 2


@pytest.mark.parametrize("slow", ["-skx", "--inodes"])
def test_a_measurement_that_takes_too_long_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A million files on a slow disk must not keep the runner."""
    put_du(folder, monkeypatch, f'case "$*" in *{slow}*) exec /bin/sleep 60 ;; esac')
    assert used(folder, patience=0.1) is None


def test_a_measurement_that_gets_no_cpu_time_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eval must not be killed because its host is busy."""
    put_du(folder, monkeypatch, "/bin/sleep 0.5; printf '4\\tfolder\\n'")
    assert used(folder, patience=0.2) == Used(size=4096, files=4)


def test_a_measurement_that_computes_too_long_is_given_up_sooner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has used up its time when it is looked at for the first time."""
    put_du(folder, monkeypatch, "exec /bin/sleep 60")
    looks: list[int] = []

    def all_of_it(process: int) -> float:
        looks.append(process)
        return 0.1

    monkeypatch.setattr(files, "_cpu_time", all_of_it)
    assert used(folder, patience=0.1) is None
    assert len(looks) == 1


def test_without_the_program_nothing_is_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minimal systems lack it."""
    monkeypatch.setenv("PATH", str(folder))
    assert used(folder) == Used(size=0, files=0)


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("printf '7\\t.\\n'; echo 'a file vanished' >&2; exit 1", 7),
        ("echo 'du: no such thing'", 0),
        ('[ "$LC_ALL$BLOCK_SIZE" = C ] && printf "7\\t.\\n"', 7),
    ],
)
def test_complaints_and_the_users_settings_do_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, number: int
) -> None:
    """Files come and go while it looks, and variables change what it prints."""
    monkeypatch.setenv("BLOCK_SIZE", "'1")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    put_du(folder, monkeypatch, script)
    assert used(folder) == Used(size=number * 1024, files=number)


def test_the_room_is_that_of_the_file_system(tmp_path: Path) -> None:
    """What this user may still write there."""
    found = room(tmp_path)
    assert found.place == tmp_path
    assert found.free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.5)


def test_a_path_that_is_not_there_yet_has_the_room_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative ones, too."""
    assert room(tmp_path / "a/b/c").place == tmp_path
    monkeypatch.chdir(tmp_path)
    assert room(Path("a/b")).place == tmp_path


def test_the_number_of_files_is_known_where_it_has_a_limit() -> None:
    """Some file systems make room for names as they go."""
    files = room(LIMITED).files
    assert files
    assert files <= os.statvfs(LIMITED).f_files
    assert room(UNLIMITED).files is None


def test_a_disk_that_cannot_be_looked_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be broken."""

    def broken(_: Path) -> os.statvfs_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "statvfs", broken)
    with pytest.raises(EnvironmentFault) as caught:
        room(tmp_path)
    assert str(caught.value) == f"cannot look at the disk of {tmp_path}: Input/output error"

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import EnvironmentFault
from runner.files import appearing_whole, append, named, replace, write_whole
from tests.privileges import python_on_small_disk

NO_RIGHT = "no permission; make it writable for this user, or choose another --progress-dir"
FULL = "the disk is full; free some space and run again, what is recorded stays recorded"


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EISDIR, "it is a folder; move it away"),
        (errno.ENOTDIR, "a file is where a folder should be; move it away"),
        (errno.EACCES, NO_RIGHT),
        (errno.EROFS, NO_RIGHT),
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_cure(number: int, cure: str) -> None:
    """The message has what was tried and on which file; the exit code is the environment's."""
    with pytest.raises(EnvironmentFault) as caught, named(Path("/p/x"), "write"):
        raise OSError(number, os.strerror(number))
    message = str(caught.value)
    assert message == f"cannot write /p/x: {cure}"
    assert caught.value.exit_code == 3


def test_a_refusal_without_a_number_says_what_it_says() -> None:
    """Python raises such ones, too."""
    with pytest.raises(EnvironmentFault) as caught, named(Path("/p/x"), "write"):
        raise OSError("unsupported")
    assert str(caught.value) == "cannot write /p/x: unsupported"


def test_a_replaced_file_has_the_new_content(tmp_path: Path) -> None:
    """A missing folder is made, and nothing is left next to the file."""
    path = tmp_path / "a/b/file"
    replace(path, b"old")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The old content stays, and the part of the new one that was written goes."""
    code = """
import sys, pathlib
from runner.errors import EnvironmentFault
from runner.files import replace
path = pathlib.Path(sys.argv[1]) / "file"
replace(path, b"old")
try:
    replace(path, b"x" * 1_000_000)
except EnvironmentFault as error:
    print(error)
print(path.read_text(), *[found.name for found in path.parent.iterdir()])
"""
    ended = python_on_small_disk(code, tmp_path)
    said, rest = ended.stdout.splitlines()
    assert "the disk is full" in said
    assert rest == "old file"


def test_what_is_appended_to_a_full_disk_is_there_whole_or_not(tmp_path: Path) -> None:
    """What other steps of a job have written stays."""
    code = """
import sys, pathlib
from runner.errors import EnvironmentFault
from runner.files import append
path = pathlib.Path(sys.argv[1]) / "file"
append(path, b"before")
try:
    append(path, b"x" * 1_000_000)
except EnvironmentFault as error:
    print(error)
print(path.read_text())
"""
    said, rest = python_on_small_disk(code, tmp_path).stdout.splitlines()
    assert "the disk is full" in said
    assert rest == "before"


def test_what_is_appended_to_no_file_is_said(tmp_path: Path) -> None:
    """A pipe that nobody reads cannot be cut back, and need not be."""
    append(tmp_path / "new", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"
    append(Path("/dev/null"), b"x")
    with pytest.raises(EnvironmentFault, match="cannot write /dev/full: the disk is full"):
        append(Path("/dev/full"), b"x")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nobody sees it before its end, and of one that breaks off nothing stays."""
    path = tmp_path / "file"
    with appearing_whole(path, temporary=".new") as file:
        file.write(b"a")
        assert not path.exists()
    assert path.read_bytes() == b"a"

    def breaks_off() -> None:
        with appearing_whole(path, temporary=".new") as file:
            file.write(b"b")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        breaks_off()
    assert path.read_bytes() == b"a"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_written_over_by_the_next(tmp_path: Path) -> None:
    """Where a lock sees to it that there is one at a time."""
    path = tmp_path / "a.json"
    with contextlib.suppress(RuntimeError):
        write_whole(path, broken(), writer="run")
    (tmp_path / ".a.json.run.new").write_bytes(b"half")
    write_whole(path, [b"whole"], writer="run")
    assert path.read_bytes() == b"whole"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def broken() -> Iterator[bytes]:
    """Content that breaks off."""
    yield b"half"
    raise RuntimeError

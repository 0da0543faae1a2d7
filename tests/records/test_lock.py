import errno
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from runner.errors import EnvironmentFault, LockHeld
from runner.records.run_lock import is_held, run_lock
from tests.privileges import python_bound_by_permissions, python_on_small_disk

HOLD = """
import sys, pathlib
from runner.records.run_lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

Hold = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "oaievalset" / "m.s.lock"


@pytest.fixture
def hold(path: Path) -> Iterator[Hold]:
    """Starts another process that holds the lock."""
    started = []

    def start() -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(holder)
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        return holder

    yield start
    for holder in started:
        holder.kill()
        holder.communicate()


def refused(path: Path) -> str:
    """The message to who comes second."""
    with pytest.raises(LockHeld) as caught, run_lock(path):
        pass
    return str(caught.value)


def test_the_second_is_told_who_holds_it(path: Path, hold: Hold) -> None:
    """The message has process, host and start, and says what to do."""
    holder = hold()
    message = refused(path)
    words = message.split()
    assert f"held by process {holder.pid} on {socket.gethostname()} since" in message
    since = datetime.fromisoformat(words[words.index("since") + 1].rstrip(":"))
    assert timedelta() <= datetime.now(UTC) - since < timedelta(minutes=1)
    assert message.endswith("wait for it, or use another --progress-dir")
    assert LockHeld.exit_code == 3


def test_a_killed_holder_leaves_the_lock_free(path: Path, hold: Hold) -> None:
    """At once, although the file next to it still names the holder."""
    holder = hold()
    assert is_held(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_held(path)
    with run_lock(path):
        assert is_held(path)


def test_a_holder_that_ends_leaves_the_lock_free(path: Path, hold: Hold) -> None:
    """The next run starts as if there had been none."""
    holder = hold()
    holder.communicate("")
    with run_lock(path):
        pass
    assert not is_held(path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 99999, None])
def test_a_holder_that_is_not_known_holds_nevertheless(
    path: Path, hold: Hold, content: bytes | None
) -> None:
    """The file with its name is for the message only."""
    hold()
    holder_file = path.with_name(f"{path.name}.holder.json")
    if content is None:
        holder_file.unlink()
    else:
        holder_file.write_bytes(content)
    assert "is held by another process" in refused(path)


def test_a_reader_without_the_right_to_write_is_told(path: Path, hold: Hold) -> None:
    """`evalset status` works on another user's progress directory."""
    hold()
    code = """
import sys, pathlib
from runner.records.run_lock import is_held
print(is_held(pathlib.Path(sys.argv[1])))
"""
    path.chmod(0o444)
    assert python_bound_by_permissions(code, path).stdout == "True\n"


def test_asking_creates_nothing(path: Path) -> None:
    """A lock that nobody ever took is free."""
    assert not is_held(path)
    assert not path.parent.exists()


def test_a_lock_that_cannot_be_taken_is_named(path: Path) -> None:
    """The message says what is in the way."""
    path.mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match="it is a folder; move it away"), run_lock(path):
        pass


def test_a_full_disk_does_not_keep_the_lock_held(tmp_path: Path) -> None:
    """Who holds it cannot be written; that is said, and the next one may try."""
    code = """
import os, sys, pathlib
from runner.errors import EnvironmentFault
from runner.records.run_lock import run_lock, is_held
root = pathlib.Path(sys.argv[1])
path = root / "m.s.lock"
path.write_text("")
with (root / "full").open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)): pass
    except OSError: pass
try:
    with run_lock(path): pass
except EnvironmentFault as error:
    print(error)
print(is_held(path), sorted(os.listdir(root)))
"""
    said, rest = python_on_small_disk(code, tmp_path).stdout.splitlines()
    assert "the disk is full" in said
    assert rest == "False ['full', 'm.s.lock']"


def test_a_holders_name_that_has_gone_keeps_no_run_from_ending(path: Path) -> None:
    """Somebody may have tidied up."""
    with run_lock(path):
        path.with_name(f"{path.name}.holder.json").unlink()
    assert not is_held(path)


def test_a_holders_name_that_cannot_be_deleted_keeps_no_run_from_ending(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is free all the same, and the next holder writes its own."""
    with monkeypatch.context() as patched, run_lock(path):
        broken = Mock(side_effect=OSError(errno.EIO, "Input/output error"))
        patched.setattr("pathlib.Path.unlink", broken)
    assert not is_held(path)
    with run_lock(path):
        pass
    assert [each.name for each in path.parent.iterdir()] == [path.name]

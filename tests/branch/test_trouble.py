"""What may happen to a branch, a repository and a remote while snapshots are taken."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from runner.branch import restore, snapshots
from runner.branch.git import GitError
from runner.branch.progress_branch import history
from runner.branch.remote import RemoteError
from runner.branch.restore import restore_progress
from runner.errors import EnvironmentFault, UsageError
from runner.run import background_snapshots as background
from runner.run.background_snapshots import BackgroundSnapshots
from tests.branch.desk import BRANCH, Desk, git
from tests.conftest import until


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gather and pause for moments only."""
    monkeypatch.setattr(background, "GATHER", 0.05)
    monkeypatch.setattr(background, "SHARE", 0)
    monkeypatch.setattr(snapshots, "FIRST_PAUSE", 0.001)


def plumb(folder: Path, *line: str, stdin: bytes = b"", **environ: str) -> str:
    """Run Git's plumbing with input."""
    said = subprocess.run(
        ["git", "-C", folder, *line],
        input=stdin,
        capture_output=True,
        check=True,
        env=os.environ | environ,
    )
    return said.stdout.decode().strip()


def put(desk: Desk, path: bytes, content: bytes, *, date: str = "1700000000 +0000") -> None:
    """Add a file to the branch as anyone who may push to it can."""
    index = str(desk.folder / "own-index")
    blob = plumb(desk.clone, "hash-object", "-w", "--stdin", stdin=content)
    plumb(desk.clone, "read-tree", BRANCH, GIT_INDEX_FILE=index)
    line = b"100644 " + blob.encode() + b"\t" + path + b"\0"
    plumb(desk.clone, "update-index", "-z", "--index-info", stdin=line, GIT_INDEX_FILE=index)
    tree = plumb(desk.clone, "write-tree", GIT_INDEX_FILE=index)
    text = f"tree {tree}\nparent {git(desk.clone, 'rev-parse', BRANCH)}\n"
    text += f"author a <a@b> {date}\ncommitter a <a@b> {date}\n\nby hand\n"
    made = plumb(
        desk.clone,
        *("hash-object", "-t", "commit", "-w", "--literally", "--stdin"),
        stdin=text.encode(),
    )
    git(desk.clone, "update-ref", f"refs/heads/{BRANCH}", made)


def test_a_lock_that_was_left_is_named(desk: Desk) -> None:
    """A power loss may leave one; the line says which file to delete."""
    desk.succeed("x")
    lock = desk.clone / f".git/refs/heads/{BRANCH}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with desk.snapshots() as (taken, _):
        with pytest.raises(EnvironmentFault, match=r"delete the file refs/heads/.*\.lock"):
            taken.take()
        lock.unlink()
        assert taken.take()


def test_a_branch_that_is_deleted_here_comes_back(desk: Desk, hub: Path) -> None:
    """From what this host has, and from the remote."""
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (taken, _):
        taken.take()
        taken.push()
        git(desk.clone, "update-ref", "-d", f"refs/heads/{BRANCH}")
        desk.succeed("y")
        taken.take()
        taken.push()
        assert taken.pushes <= 3
    assert len(git(hub, "show", f"{BRANCH}:oaievalset/m.s.progress.txt").splitlines()) == 2


def test_a_branch_that_is_checked_out_meanwhile_is_left_alone(desk: Desk) -> None:
    """Else its files would seem to be deleted there."""
    desk.succeed("x")
    with desk.snapshots() as (taken, _):
        taken.take()
        git(desk.clone, "worktree", "add", "--quiet", str(desk.folder / "tree"), BRANCH)
        desk.succeed("y")
        with pytest.raises(UsageError, match=r"is checked out in .*tree"):
            taken.take()
        git(desk.clone, "worktree", "remove", str(desk.folder / "tree"))
        assert taken.take()


def test_a_name_of_git_users_that_git_does_not_take_is_replaced(desk: Desk) -> None:
    """There is always an author."""
    git(desk.clone, "config", "user.name", ".")
    desk.succeed("x")
    with desk.snapshots() as (taken, _):
        taken.take()
    assert git(desk.clone, "log", "-1", "--format=%an", BRANCH) == "evalset"


def test_a_remote_that_is_a_mirror_gets_the_branch_alone(desk: Desk, hub: Path) -> None:
    """The setting is for the user's own pushes."""
    git(desk.clone, "remote", "add", "--mirror=push", "backup", str(hub))
    desk.succeed("x")
    with desk.snapshots(remote="backup") as (taken, _):
        taken.take()
        taken.push()
    assert git(hub, "for-each-ref", "--format=%(refname)") == f"refs/heads/{BRANCH}"


def test_what_a_remote_says_itself_is_said(desk: Desk, hub: Path) -> None:
    """A hook's own words tell more than Git's."""
    hook = hub / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no room here >&2\nexit 1\n")
    hook.chmod(0o755)
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (taken, _):
        taken.take()
        with pytest.raises(RemoteError, match=r"pre-receive hook declined.*\(no room here\)"):
            taken.push()


def test_what_ssh_says_is_said() -> None:
    """And not only that Git could not read."""
    said = (
        "ssh: Could not resolve hostname nowhere\nfatal: Could not read from remote repository.\n"
    )
    assert GitError(said).line == "ssh: Could not resolve hostname nowhere"


def slow_hub(hub: Path, script: str) -> None:
    """A remote whose hook does something first."""
    hook = hub / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)


def test_a_remote_may_take_long_while_it_says_something(desk: Desk, hub: Path) -> None:
    """Only silence counts."""
    slow_hub(hub, "for i in 1 2 3 4 5 6 7 8; do echo $i >&2; sleep 0.25; done")
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (taken, _):
        taken.take()
        taken.push(seconds=1)
    assert git(hub, "rev-parse", BRANCH) == git(desk.clone, "rev-parse", BRANCH)


def test_a_remote_that_is_silent_is_away(desk: Desk, hub: Path) -> None:
    """After the time that it gets, with all that Git has started."""
    slow_hub(hub, f"echo $$ > {hub}/pid; exec sleep 60")
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (taken, _):
        taken.take()
        with pytest.raises(RemoteError, match=r"no answer within 0\.5 s"):
            taken.push(seconds=0.5)
    hook = int((hub / "pid").read_text())
    until(lambda: not Path(f"/proc/{hook}/cmdline").exists() or is_zombie(hook))


def is_zombie(process: int) -> bool:
    """Whether a process has ended, and nobody has asked how."""
    return " Z " in Path(f"/proc/{process}/stat").read_text()


def test_the_end_can_be_hurried(desk: Desk, hub: Path) -> None:
    """Whoever does not want to wait for a remote is told what is not pushed."""
    slow_hub(hub, f"touch {hub}/begun; exec sleep 60")
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (taken, warnings):
        taking = BackgroundSnapshots(taken, every=60, warn=warnings.append)
        before = set(threading.enumerate())
        taking.start()
        began = time.monotonic()
        problem = taking.end((hub / "begun").exists)
        assert time.monotonic() - began < 10
    assert f"the snapshot is not pushed to {hub}" in problem
    assert desk.subjects() == ["m s 1/1 (+1)"]
    assert set(threading.enumerate()) <= before


def test_a_compressed_log_without_end_stays_on_the_branch(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill the disk; the rest arrives."""
    monkeypatch.setattr(restore, "LARGEST", 1000)
    desk.succeed("x", log=b"line\n" * 2000)
    with desk.snapshots(max_file=500) as (taken, _):
        taken.take()
    other = Desk(desk.folder / "other", desk.clone, "other")
    with other.snapshots() as (taken, _):
        assert taken.tip is not None
        warnings: list[str] = []
        added = restore_progress(taken.branch, taken.tip, other.layout, warn=warnings.append)
    assert added == 1
    (warning,) = warnings
    assert "hostx_m_x.jsonl.gz stays on the branch" in warning
    assert not list(other.layout.evallogs.iterdir())


def test_a_log_that_is_no_archive_stays_on_the_branch(desk: Desk) -> None:
    """Whatever its name says."""
    desk.succeed("x", log=b"line\n" * 2000)
    with desk.snapshots(max_file=500) as (taken, _):
        taken.take()
    put(desk, b"evallogs/hostx_m_x.jsonl.gz", b"no archive")
    other = Desk(desk.folder / "other", desk.clone, "other")
    with other.snapshots() as (taken, _):
        assert taken.tip is not None
        warnings: list[str] = []
        restore_progress(taken.branch, taken.tip, other.layout, warn=warnings.append)
    assert "cannot be unpacked" in warnings[0]


@pytest.mark.parametrize("path", [b"oaievalset/\xff.e.progress.txt", b"oaievalset/a\nb.run.json"])
def test_a_record_whose_name_is_no_text_stops_nobody(desk: Desk, path: bytes) -> None:
    """It stays on the branch, and nothing is read from it."""
    desk.succeed("x")
    with desk.snapshots() as (taken, _):
        taken.take()
    put(desk, path, b"{}\n")
    desk.succeed("y")
    with desk.snapshots() as (taken, _):
        assert taken.take()
    names = git(desk.clone, "ls-tree", "-r", "--name-only", BRANCH, "oaievalset/").splitlines()
    assert len(names) == 3


def test_a_time_that_no_calendar_has_is_left_empty(desk: Desk) -> None:
    """A commit may claim any."""
    desk.succeed("x")
    with desk.snapshots() as (taken, _):
        taken.take()
    put(desk, b"evallogs/y", b"", date="99999999999999 +0000")
    with desk.snapshots() as (taken, _):
        assert taken.tip is not None
        assert [one.at != "" for one in history(taken.branch, taken.tip)] == [False, True]

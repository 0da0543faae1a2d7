import gzip
import os
import subprocess
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.share.remote import RemoteError
from tests.share.desk import BRANCH, Desk, git

LINE = '["oaieval", "dummy", "{}"]\n'


def state_of(clone: Path) -> dict[str, str]:
    """All of the user's that a snapshot must leave alone."""
    return {
        "head": git(clone, "symbolic-ref", "HEAD") + git(clone, "rev-parse", "HEAD"),
        "status": git(clone, "status", "--porcelain=v2"),
        "index": git(clone, "ls-files", "--stage", "--debug"),
        "file": (clone / "file").read_text(),
        "main": git(clone, "log", "--format=%H", "main"),
    }


def test_a_snapshot_is_the_progress_directory(desk: Desk) -> None:
    """On an orphan branch, byte for byte, without what passes, and with a page."""
    desk.plan("x", "y", "z")
    desk.succeed("x", "y")
    (desk.layout.root / ".attempts/1").mkdir(parents=True)
    (desk.layout.root / ".attempts/1/half").write_text("half")
    desk.layout.lock.touch()
    with desk.snapshots() as (snapshots, warnings):
        assert snapshots.take()
    assert desk.files_on_branch() == [
        "README.md",
        "evallogs/hostx_m_x.jsonl",
        "evallogs/hosty_m_y.jsonl",
        "oaievalset/m.s.attempts.jsonl",
        "oaievalset/m.s.progress.txt",
        "oaievalset/m.s.run.json",
    ]
    for path in desk.files_on_branch()[1:]:
        assert desk.on_branch(path) == (desk.layout.root / path).read_text().rstrip("\n")
    assert desk.subjects() == ["m s 2/3 (+2)"]
    assert git(desk.clone, "log", "--format=%p", BRANCH) == ""
    assert "2 of 3 finished" in desk.on_branch("README.md")
    assert warnings == []


def test_nothing_new_makes_no_commit(desk: Desk) -> None:
    """A snapshot is taken when there is something to keep."""
    desk.succeed("x")
    with desk.snapshots() as (snapshots, _):
        assert snapshots.take()
        assert not snapshots.take()
    with desk.snapshots() as (snapshots, _):
        assert not snapshots.take()
    assert desk.subjects() == ["m s 1/1 (+1)"]


def test_a_snapshot_follows_the_one_before(desk: Desk) -> None:
    """Several evals that end together make one commit."""
    desk.plan("x", "y", "z")
    with desk.snapshots() as (snapshots, _):
        desk.succeed("x")
        snapshots.take()
        desk.succeed("y", "z")
        snapshots.take()
    assert desk.subjects() == ["m s 3/3 (+2)", "m s 1/3 (+1)"]


def test_the_users_head_index_and_work_tree_are_not_touched(desk: Desk) -> None:
    """Nothing of theirs is committed, whatever is staged."""
    before = state_of(desk.clone)
    desk.succeed("x")
    with desk.snapshots() as (snapshots, _):
        snapshots.take()
    assert state_of(desk.clone) == before
    assert "file" not in desk.files_on_branch()


def test_git_variables_lead_nowhere_else(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that a hook or a rebase starts has them set."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    desk.succeed("x")
    with desk.snapshots() as (snapshots, _):
        snapshots.take()
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    assert git(desk.clone, "log", "-1", "--format=%an", BRANCH) == "A User"
    assert not (tmp_path / "elsewhere").exists()


def test_hooks_do_not_run_and_signing_stops_nothing(desk: Desk, hub: Path) -> None:
    """The user's settings for their own commits are not meant for snapshots."""
    ran = desk.clone / "ran"
    hooks = desk.clone / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-commit", "reference-transaction", "pre-push"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
        (hooks / name).chmod(0o755)
    for setting in ("commit.gpgSign", "push.gpgSign", "tag.gpgSign"):
        git(desk.clone, "config", setting, "true")
    git(desk.clone, "config", "gpg.program", "/nonexistent")
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (snapshots, _):
        snapshots.take()
        snapshots.push()
    assert not ran.exists()
    assert git(hub, "rev-parse", BRANCH) == git(desk.clone, "rev-parse", BRANCH)


def test_there_is_always_an_author(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the user has told Git neither name nor address."""
    git(desk.clone, "config", "--unset", "user.name")
    git(desk.clone, "config", "--unset", "user.email")
    git(desk.clone, "config", "user.useConfigOnly", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    desk.succeed("x")
    with desk.snapshots() as (snapshots, _):
        snapshots.take()
    assert git(desk.clone, "log", "-1", "--format=%an %ae", BRANCH).startswith("evalset ")


def test_bytes_are_kept_whatever_git_is_told_about_line_ends(desk: Desk) -> None:
    """Filters and attributes are for the user's files."""
    git(desk.clone, "config", "core.autocrlf", "input")
    (desk.clone / ".gitattributes").write_text("* text eol=lf filter=none\n")
    desk.succeed("x", log=b"one\r\ntwo\r\n")
    with desk.snapshots() as (snapshots, _):
        snapshots.take()
    size = git(desk.clone, "cat-file", "-s", f"{BRANCH}:evallogs/hostx_m_x.jsonl")
    assert size == "10"


def test_a_large_file_is_committed_compressed(desk: Desk) -> None:
    """It arrives at another host as it was."""
    log = b'{"event": 1}\n' * 1000
    desk.succeed("x", log=log)
    with desk.snapshots(max_file=1000) as (snapshots, warnings):
        snapshots.take()
    shown = subprocess.run(
        ["git", "-C", desk.clone, "show", f"{BRANCH}:evallogs/hostx_m_x.jsonl.gz"],
        capture_output=True,
        check=True,
    )
    assert gzip.decompress(shown.stdout) == log
    assert warnings == []


def test_a_file_that_is_too_large_stays_here_and_is_listed(desk: Desk) -> None:
    """With name, size and hash, on the branch's page; the user is told once."""
    desk.succeed("x", log=os.urandom(5000))
    desk.succeed("y")
    with desk.snapshots(max_file=1000) as (snapshots, warnings):
        snapshots.take()
        assert not snapshots.take()
    assert "evallogs/hostx_m_x.jsonl" not in desk.files_on_branch()
    assert "evallogs/hosty_m_y.jsonl" in desk.files_on_branch()
    page = desk.on_branch("README.md")
    assert "`evallogs/hostx_m_x.jsonl`" in page
    assert "| 5000 |" in page
    (warning,) = warnings
    assert "evallogs/hostx_m_x.jsonl is left out" in warning
    assert "--snapshot-max-file" in warning


def test_a_log_with_a_secret_stays_here(desk: Desk) -> None:
    """The warning has file and line; nothing on the branch has the value."""
    desk.succeed("x", log=b'{"a": 1}\n{"key": "hunter2-hunter2"}\n')
    desk.succeed("y")
    environment = {"MY_KEY": "hunter2-hunter2"}
    with desk.snapshots(environment=environment) as (snapshots, warnings):
        snapshots.take()
    (warning,) = warnings
    assert "evallogs/hostx_m_x.jsonl" in warning
    assert "line 2" in warning
    assert "MY_KEY" in warning
    assert "hunter2" not in warning
    assert "evallogs/hosty_m_y.jsonl" in desk.files_on_branch()
    assert all("hunter2" not in desk.on_branch(path) for path in desk.files_on_branch())
    assert '"x"' in desk.on_branch("oaievalset/m.s.progress.txt")


def test_of_an_attempt_with_a_secret_only_the_line_stays_here(desk: Desk) -> None:
    """Leaving out all attempts would lose what other evals have done."""
    desk.succeed("x")
    with desk.layout.attempts.open("a") as file:
        file.write('{"reason": "hunter2-hunter2"}\n')
    desk.succeed("y")
    with desk.snapshots(environment={"MY_KEY": "hunter2-hunter2"}) as (snapshots, warnings):
        snapshots.take()
    attempts = desk.on_branch("oaievalset/m.s.attempts.jsonl").splitlines()
    assert len(attempts) == 2
    (warning,) = warnings
    assert "oaievalset/m.s.attempts.jsonl, line 2" in warning


def test_a_half_written_line_waits_for_its_end(desk: Desk) -> None:
    """What a live run is writing is no line yet."""
    desk.succeed("x")
    with desk.layout.progress.open("a") as file:
        file.write('["oaieval", "dum')
    with desk.snapshots() as (snapshots, _):
        snapshots.take()
    assert desk.on_branch("oaievalset/m.s.progress.txt") == LINE.format("x").rstrip()


def test_two_hosts_lose_nothing(two: tuple[Desk, Desk]) -> None:
    """A push that comes second is merged and pushed again; history stays in one line."""
    a, b = two
    a.plan("x", "y", "z", "w", run="261121031336AAAAAAAA")
    b.plan("x", "y", "z", "w", run="261121031337AAAAAAAA")
    with a.snapshots() as (one, _), b.snapshots() as (other, _):
        a.succeed("x")
        one.take()
        one.push()
        b.succeed("y")
        b.fail("z")
        other.take()
        other.push()
        a.succeed("w")
        one.take()
        one.push()
    (hub,) = {git(desk.clone, "remote", "get-url", "origin") for desk in two}
    progress = git(Path(hub), "show", f"{BRANCH}:oaievalset/m.s.progress.txt")
    assert sorted(progress.splitlines()) == [LINE.format(name).rstrip() for name in "wxy"]
    attempts = git(Path(hub), "show", f"{BRANCH}:oaievalset/m.s.attempts.jsonl")
    assert len(attempts.splitlines()) == 4
    logs = git(Path(hub), "ls-tree", "-r", "--name-only", BRANCH, "evallogs/").splitlines()
    assert len(logs) == 4
    page = git(Path(hub), "show", f"{BRANCH}:README.md")
    assert "3 of 4 finished, 1 failed" in page
    subjects = git(Path(hub), "log", "--format=%s%x09%p", BRANCH).splitlines()
    assert [line.partition("\t")[0] for line in subjects] == [
        "m s 3/4 (+1)",
        "m s 2/4 (+1)",
        "m s 1/4 (+1)",
    ]
    assert all(" " not in line.partition("\t")[2] for line in subjects)


def test_snapshots_that_were_seen_stay_in_the_history(two: tuple[Desk, Desk]) -> None:
    """A later process merges with two parents what it did not take itself."""
    a, b = two
    a.succeed("x")
    b.succeed("y")
    with b.snapshots() as (other, _):
        other.take()
    with a.snapshots() as (one, _):
        one.take()
        one.push()
    with b.snapshots() as (other, _):
        other.push()
        tip = other.tip
    assert len(git(b.clone, "log", "-1", "--format=%p", str(tip)).split()) == 2
    assert set(b.subjects()) == {"m s 1/1 (+1)", "m s 2/2 (+1)"}


def test_another_process_of_the_same_clone_is_merged_too(desk: Desk, tmp_path: Path) -> None:
    """Two runs may share a repository and a branch."""
    other = Desk(tmp_path / "other", desk.clone, "other")
    with desk.snapshots() as (one, _), other.snapshots() as (two, _):
        desk.succeed("x")
        other.succeed("y")
        one.take()
        two.take()
        desk.succeed("z")
        one.take()
    progress = desk.on_branch("oaievalset/m.s.progress.txt").splitlines()
    assert sorted(progress) == [LINE.format(name).rstrip() for name in "xyz"]
    assert len([path for path in desk.files_on_branch() if path.startswith("evallogs/")]) == 3


def test_a_remote_that_refuses_says_why(desk: Desk, hub: Path) -> None:
    """A rejection by a hook is no race, and is not tried again."""
    hook = hub / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho no room here >&2\nexit 1\n")
    hook.chmod(0o755)
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (snapshots, _):
        snapshots.take()
        with pytest.raises(RemoteError, match="pre-receive hook declined"):
            snapshots.push()
        assert snapshots.pushes == 1


def test_a_remote_that_is_away_keeps_what_is_here(desk: Desk, hub: Path) -> None:
    """It can be pushed later, by this process or the next."""
    desk.succeed("x")
    away = hub.with_name("away.git")
    with desk.snapshots(remote=str(hub)) as (snapshots, _):
        hub.rename(away)
        snapshots.take()
        with pytest.raises(RemoteError):
            snapshots.push()
        away.rename(hub)
        snapshots.push()
    assert git(hub, "rev-parse", BRANCH) == git(desk.clone, "rev-parse", BRANCH)


def test_credentials_in_an_address_are_not_said(desk: Desk) -> None:
    """Whatever Git says about it."""
    desk.succeed("x")
    address = "http://me:hunter2@127.0.0.1:9/x.git"
    with desk.snapshots(remote=address) as (snapshots, _):
        snapshots.take()
        with pytest.raises(RemoteError) as caught:
            snapshots.push()
        assert snapshots.remote is not None
        assert "hunter2" not in snapshots.remote.shown
    assert "hunter2" not in str(caught.value)


def test_a_branch_that_holds_something_else_is_refused(desk: Desk) -> None:
    """The user's branches are not written to."""
    git(desk.clone, "branch", BRANCH)
    with pytest.raises(UsageError, match="is no progress branch"), desk.snapshots():
        pass

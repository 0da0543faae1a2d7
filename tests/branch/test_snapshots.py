import os
from pathlib import Path

import pytest

from runner.branch.remote import RemoteError
from runner.errors import UsageError
from tests.branch.desk import BRANCH, Desk, git


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
    assert "2 of 3 evals finished" in desk.on_branch("README.md")
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


def test_a_remote_that_refuses_says_why(desk: Desk, hub: Path) -> None:
    """A rejection by a hook is no race, and is not retried."""
    hook = hub / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
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
        assert "hunter2" not in snapshots.remote.public_address
    assert "hunter2" not in str(caught.value)


def test_a_branch_that_holds_something_else_is_refused(desk: Desk) -> None:
    """The user's branches are not written to."""
    git(desk.clone, "branch", BRANCH)
    with pytest.raises(UsageError, match="is no progress branch"), desk.snapshots():
        pass


def test_a_branch_that_the_remote_lacks_is_said_to_be_here(desk: Desk, hub: Path) -> None:
    """So that nobody looks for it there."""
    desk.succeed("x")
    with desk.snapshots(remote=str(hub)) as (snapshots, warnings):
        snapshots.take()
        snapshots.restore(warn=warnings.append)
        assert snapshots.name == f"{BRANCH} here"
        snapshots.push()
    with desk.snapshots(remote=str(hub)) as (snapshots, warnings):
        snapshots.restore(warn=warnings.append)
        assert snapshots.name == BRANCH
    assert warnings == []

"""Snapshots work in repositories as they may be found, and leave them as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.branch.desk import git
from tests.commands.conftest import Here, contents
from tests.commands.repositories import BRANCH, FINISHED, PULL, PUSH, TAKE, begin, commit, not_ours


def detached(folder: Path) -> None:
    """Check out a commit, not a branch."""
    git(folder, "checkout", "--quiet", "--detach", "HEAD~1")


def in_mid_rebase(folder: Path) -> None:
    """Stop in a rebase, at a conflict."""
    git(folder, "checkout", "--quiet", "-b", "topic", "HEAD~1")
    commit(folder, "three\n")
    with pytest.raises(Exception, match="returned non-zero"):
        git(folder, "rebase", "main")
    assert (folder / ".git/rebase-merge").is_dir()


def in_mid_merge(folder: Path) -> None:
    """Stop in a merge, at a conflict."""
    git(folder, "checkout", "--quiet", "-b", "topic", "HEAD~1")
    commit(folder, "three\n")
    with pytest.raises(Exception, match="returned non-zero"):
        git(folder, "merge", "main")
    assert (folder / ".git/MERGE_HEAD").exists()


def dirty(folder: Path) -> None:
    """Stage one change, and leave another one."""
    (folder / "file").write_text("staged\n")
    (folder / "added").write_text("added\n")
    git(folder, "add", "file", "added")
    (folder / "file").write_text("not staged\n")
    git(folder, "rm", "--quiet", "--cached", "added")


def with_a_stale_lock(folder: Path) -> None:
    """Leave the lock of an index, as a Git that was killed does."""
    (folder / ".git/index.lock").write_bytes(b"")


def as_it_is(folder: Path) -> None:
    """Nothing is special."""


@pytest.mark.parametrize(
    "bring", [as_it_is, detached, in_mid_rebase, in_mid_merge, dirty, with_a_stale_lock]
)
def test_a_repository_in_any_state_stays_as_it_is(
    here: Here, repository: Path, bring: Callable[[Path], None]
) -> None:
    """HEAD, index, work tree, refs, and a rebase under way."""
    bring(repository)
    before = not_ours(contents(repository))
    ended = here.evalset(*TAKE)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not_ours(contents(repository)) == before
    assert git(repository, "rev-list", "--count", BRANCH) == "1"
    tree = git(repository, "ls-tree", "-r", "--name-only", BRANCH).splitlines()
    assert tree == ["README.md", FINISHED]


def test_a_repository_without_a_commit(here: Here) -> None:
    """HEAD stays unborn."""
    begin(here.folder)
    before = not_ours(contents(here.folder))
    assert here.evalset(*TAKE).returncode == 0
    assert not_ours(contents(here.folder)) == before
    assert git(here.folder, "status", "--porcelain", "--branch").startswith(
        "## No commits yet on main"
    )
    assert git(here.folder, "rev-list", "--count", BRANCH) == "1"


def test_a_repository_with_longer_hashes(here: Here) -> None:
    """Git's SHA-256 repositories are as good."""
    begin(here.folder, "--object-format=sha256")
    assert here.evalset(*TAKE).returncode == 0
    assert len(git(here.folder, "rev-parse", BRANCH)) == 64


def test_a_shallow_clone(here: Here, tmp_path: Path, hub: Path) -> None:
    """It fetches the branch, continues from it and pushes, and stays shallow."""
    source = begin(tmp_path / "source")
    commit(source, "one\n")
    commit(source, "two\n")
    git(source, "push", "--quiet", str(hub), "main")
    assert here.evalset(*TAKE, "--snapshot-repo", str(source)).returncode == 0
    pushed = here.evalset(*PUSH, "--snapshot-repo", str(source), "--remote", str(hub))
    assert pushed.returncode == 0, pushed.stderr
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{hub}", str(clone))
    here.put("progress/oaievalset/dummy.mine.progress.txt", '["oaieval", "dummy", "c.dev.v0"]\n')
    where = ("--snapshot-repo", str(clone))
    for command in (PULL, TAKE, PUSH):
        ended = here.evalset(*command, *where)
        assert (ended.returncode, ended.stderr) == (0, "")
    assert git(clone, "rev-list", "--count", "HEAD") == "1"
    assert git(clone, "status", "--porcelain") == ""
    assert len(git(hub, "show", f"{BRANCH}:{FINISHED}").splitlines()) == 3
    assert len(here.progress.read_text().splitlines()) == 3


def test_a_clone_of_a_clone_whose_current_branch_has_another_remote(
    here: Here, repository: Path, hub: Path
) -> None:
    """That of the current branch comes before `origin`; without one, and detached, `origin`."""
    other = begin(hub.with_name("other.git"), "--bare")
    git(repository, "remote", "add", "origin", str(hub))
    git(repository, "remote", "add", "fork", str(other))
    git(repository, "push", "--quiet", "--set-upstream", "fork", "main")
    assert here.evalset(*TAKE).returncode == 0
    assert "to fork" in here.evalset(*PUSH).stdout
    git(repository, "checkout", "--quiet", "--detach")
    assert "to origin" in here.evalset(*PUSH).stdout
    assert git(hub, "rev-parse", BRANCH) == git(other, "rev-parse", BRANCH)


def test_no_repository_at_all(here: Here) -> None:
    """The progress directory gets one of its own, which is not in the snapshot."""
    ended = here.evalset(*TAKE)
    assert (ended.returncode, ended.stderr) == (0, "")
    own = here.folder / "progress/.snapshots.git"
    assert git(own, "ls-tree", "-r", "--name-only", BRANCH).splitlines() == ["README.md", FINISHED]


# Settings of the user's that are not for snapshots.


def test_variables_of_git_lead_nowhere_else(here: Here, repository: Path, tmp_path: Path) -> None:
    """Also where a hook or a rebase starts the program."""
    elsewhere = tmp_path / "elsewhere"
    names = ("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "COMMON_DIR", "NAMESPACE")
    variables: dict[str, Any] = {f"GIT_{name}": str(elsewhere) for name in names}
    variables |= {"GIT_AUTHOR_NAME": "Somebody", "GIT_CONFIG_COUNT": "many", "GIT_TRACE": "1"}
    before = not_ours(contents(repository))
    ended = here.evalset(*TAKE, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not elsewhere.exists()
    assert not_ours(contents(repository)) == before
    assert git(repository, "log", "-1", "--format=%an", BRANCH) == "A User"


def test_no_hook_runs_and_no_signing_program_is_asked(
    here: Here, repository: Path, hub: Path
) -> None:
    """Each of these would stop the user's own commit or push."""
    ran = here.folder.parent / "ran"
    for name in ("pre-commit", "commit-msg", "post-commit", "reference-transaction", "pre-push"):
        hook = here.put(f".git/hooks/{name}", f"#!/bin/sh\ntouch {ran}\nexit 1\n")
        hook.chmod(0o755)
    for setting in ("commit.gpgSign", "push.gpgSign", "tag.gpgSign", "push.followTags"):
        git(repository, "config", setting, "true")
    git(repository, "config", "gpg.program", "/bin/false")
    for command in (TAKE, PUSH, PULL):
        ended = here.evalset(*command, "--remote", str(hub))
        assert (ended.returncode, ended.stderr) == (0, "")
    assert not ran.exists()
    assert git(hub, "rev-parse", BRANCH) == git(repository, "rev-parse", BRANCH)


def test_nobody_needs_a_name(here: Here) -> None:
    """Neither in the repository's settings nor at home, even if Git must not guess one."""
    git(here.folder, "init", "--quiet")
    git(here.folder, "config", "user.useConfigOnly", "true")
    ended = here.evalset(*TAKE, HOME="/nonexistent", GIT_CONFIG_NOSYSTEM="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert git(here.folder, "log", "-1", "--format=%an", BRANCH) == "evalset"


def test_bytes_are_what_they_are(here: Here, repository: Path) -> None:
    """No filter, attribute or setting for line ends comes between, there and back again."""
    content = '["oaieval", "dummy", "a\u00e4"]\r\n["oaieval", "dummy", "b"]\r\n\n'.encode()
    here.put("progress/oaievalset/dummy.mine.progress.txt", content)
    log = b"one\r\ntwo\n\x00\xff three $Id$\r"
    here.put("progress/evallogs/1_dummy_b.jsonl", log)
    here.put(".gitattributes", "* text eol=crlf ident filter=upper working-tree-encoding=UTF-16\n")
    here.put(".git/info/attributes", "* text=auto filter=upper\n")
    for name, value in {
        "filter.upper.clean": "tr a-z A-Z",
        "filter.upper.smudge": "tr a-z A-Z",
        "filter.upper.required": "true",
        "core.autocrlf": "true",
        "core.safecrlf": "true",
        "core.compression": "0",
    }.items():
        git(repository, "config", name, value)
    assert here.evalset(*TAKE).returncode == 0
    (oid,) = git(repository, "rev-parse", f"{BRANCH}:evallogs/1_dummy_b.jsonl").splitlines()
    path = here.folder / "progress/evallogs/1_dummy_b.jsonl"
    path.unlink()
    assert here.evalset(*PULL).returncode == 0
    assert path.read_bytes() == log
    assert git(repository, "hash-object", "--no-filters", str(path)) == oid
    assert git(repository, "cat-file", "-s", f"{BRANCH}:{FINISHED}") == str(len(content))

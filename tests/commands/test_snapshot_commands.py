"""`evalset snapshot` by hand, where all is well."""

import json
from pathlib import Path

import pytest

from runner import __version__
from tests.branch.desk import git, make_bare
from tests.commands.conftest import PROGRESS, Here
from tests.commands.repositories import BRANCH, NAMES, TAKE, begin

THIRD = '["oaieval", "dummy", "c.dev.v0", "--registry_path", "/registry/0"]\n'


@pytest.fixture
def hub(here: Here) -> Path:
    """The folder is a clone, and this its remote."""
    begin(here.folder)
    bare = make_bare(here.folder.parent / "hub.git")
    git(here.folder, "remote", "add", "origin", str(bare))
    return bare


@pytest.fixture
def taken(here: Here, hub: Path) -> list[str]:
    """Two snapshots are on the branch; their commits, the newest first."""
    assert hub
    assert here.evalset(*TAKE).returncode == 0
    here.put("progress/oaievalset/dummy.mine.progress.txt", PROGRESS + THIRD)
    assert here.evalset(*TAKE).returncode == 0
    return git(here.folder, "log", "--format=%H", BRANCH).splitlines()


def said(here: Here, *arguments: str) -> str:
    """What a command prints that ends well."""
    ended = here.evalset(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_take_says_what_it_has_made(here: Here, hub: Path) -> None:
    """The commit and the branch; and that nothing is new where it is so. It pushes nothing."""
    first = said(here, *TAKE)
    tip = git(here.folder, "rev-parse", BRANCH)
    assert first == f"taken: {tip} on {BRANCH}\n"
    assert said(here, *TAKE) == f"nothing is new since: {tip} on {BRANCH}\n"
    assert git(hub, "for-each-ref") == ""


def test_push_and_pull_bring_progress_over(here: Here, hub: Path, taken: list[str]) -> None:
    """Push says where to; pull how many finished evals came."""
    assert said(here, "snapshot", "push", *NAMES) == (f"pushed: {taken[0]} on {BRANCH} to origin\n")
    assert git(hub, "rev-parse", BRANCH) == taken[0]
    elsewhere = ("--progress-dir", "elsewhere")
    pulled = said(here, "snapshot", "pull", *NAMES, *elsewhere)
    assert pulled == f"took over 3 evals: {taken[0]} on {BRANCH}\n"
    copy = here.folder / "elsewhere/oaievalset/dummy.mine.progress.txt"
    assert copy.read_text() == PROGRESS + THIRD
    assert said(here, "snapshot", "pull", *NAMES, *elsewhere) == (
        f"nothing is new: {taken[0]} on {BRANCH}\n"
    )


def test_answers_are_taken_and_pulled_where_that_is_asked_for(here: Here, hub: Path) -> None:
    """Without the option they stay where they are, and pull says that there are some."""
    assert hub
    path = "answers/dummy.mine/a.dev.v0.0123456789abcdef.jsonl"
    line = '{"kind":"answer","version":1,"id":"1","key":"k","body":"an answer"}\n'
    here.put(f"progress/{path}", line)
    said(here, *TAKE)
    taken = said(here, *TAKE, "--snapshot-answers")
    tip = git(here.folder, "rev-parse", BRANCH)
    assert taken == f"taken: {tip} on {BRANCH}\n"
    said(here, "snapshot", "push", *NAMES)
    pull = ("snapshot", "pull", *NAMES, "--progress-dir", "elsewhere")
    first, second = said(here, *pull).splitlines()
    assert first == f"took over 2 evals: {tip} on {BRANCH}"
    assert "has answers for 1 eval, which stay there; --snapshot-answers" in second
    assert said(here, *pull, "--snapshot-answers") == (
        f"took over answers of providers (1): {tip} on {BRANCH}\n"
    )
    assert (here.folder / "elsewhere" / path).read_text() == line
    assert said(here, *pull) == f"nothing is new: {tip} on {BRANCH}\n"


def test_log_lists_the_snapshots(here: Here, taken: list[str]) -> None:
    """The newest first: commit, time, host and what was done."""
    lines = said(here, "snapshot", "log", *NAMES).splitlines()
    assert [line.split("  ")[0] for line in lines] == [commit[:10] for commit in taken]
    assert lines[0].endswith("  dummy mine 3/3 (+1)")
    assert lines[1].endswith("  dummy mine 2/2 (+2)")
    listed = json.loads(said(here, "snapshot", "log", *NAMES, "--json"))
    assert [each["commit"] for each in listed] == taken
    assert listed[0]["trailers"]["runner"] == __version__


def test_show_has_the_table_of_a_snapshot(here: Here, taken: list[str]) -> None:
    """The newest, or the one that is named by the beginning of its id."""
    newest = said(here, "snapshot", "show", *NAMES)
    assert newest.startswith(taken[0])
    assert f"runner: {__version__}" in newest
    assert newest.count(" done ") == 3
    before = said(here, "snapshot", "show", *NAMES, taken[1][:12])
    assert before.startswith(taken[1])
    # The table is that of this snapshot, and not of what came after it.
    assert before.count(" done ") == 2
    assert json.loads(said(here, "snapshot", "show", *NAMES, "--json"))["commit"] == taken[0]


def test_show_of_what_is_no_snapshot(here: Here, taken: list[str]) -> None:
    """The line says how to list those that are."""
    assert taken
    line = here.refused("snapshot", "show", *NAMES, "0" * 40)
    assert "is no snapshot of" in line
    assert "`evalset snapshot log` lists them" in line


def test_log_and_show_of_a_branch_that_is_at_the_remote_alone(
    here: Here, hub: Path, taken: list[str]
) -> None:
    """No clone is needed to look."""
    said(here, "snapshot", "push", *NAMES)
    git(here.folder, "update-ref", "-d", f"refs/heads/{BRANCH}")
    for command in ("log", "show"):
        shown = said(here, "snapshot", command, *NAMES, "--remote", str(hub))
        assert shown.startswith(taken[0][:10])


def test_a_reset_names_the_branch_that_has_the_same(
    here: Here, hub: Path, taken: list[str]
) -> None:
    """One of others is none, and one that is only at the remote, as far as is known here, is."""
    assert taken
    said(here, "snapshot", "push", *NAMES)
    git(here.folder, "fetch", "--quiet", "origin")
    git(here.folder, "branch", "--quiet", "-D", BRANCH)
    assert git(here.folder, "ls-remote", str(hub), BRANCH)
    ended = here.evalset("reset", *NAMES)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == (
        f"the next run of dummy mine starts over; the branch {BRANCH} keeps what is there, and a "
        "run with --snapshot takes that over: name a new one with --snapshot-branch"
    )
    here.put("progress/oaievalset/dummy.other.progress.txt", PROGRESS)
    other = here.evalset("reset", "dummy", "other")
    assert other.stdout.endswith("the next run of dummy other starts over\n")

"""Bad input for snapshots gets one clear line, and nothing is changed."""

import os
from pathlib import Path

import pytest

from tests.branch.desk import git
from tests.commands.conftest import Here, contents, only_line
from tests.commands.refusal import refused
from tests.commands.repositories import (
    BRANCH,
    NAMES,
    PULL,
    PUSH,
    RUN,
    TAKE,
    begin,
    commit,
)

# Repositories that snapshots are refused in.


@pytest.mark.parametrize("found", ["missing", "progress", "own/evals/mine.yaml"])
def test_no_repository_where_one_is_named(here: Here, found: str) -> None:
    """The line has the path, and the command that makes one there."""
    line = here.refused(*TAKE, "--snapshot-repo", found)
    assert line.startswith(f"--snapshot-repo {found} is no Git repository; ")
    assert f"`git init --bare {found}`" in line


def test_a_repository_of_another_user(here: Here) -> None:
    """Git does not trust it; the line has the command by which the user says that they do."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    begin(here.folder)
    for path in (here.folder, here.folder / ".git"):
        os.chown(path, 12345, 12345)
    line = here.refused(*TAKE, code=3)
    assert "another user owns it" in line
    assert f"git config --global --add safe.directory {here.folder}" in line


def test_a_repository_without_the_right_to_write(here: Here, repository: Path) -> None:
    """The line says that Git may not write there."""
    folders = [path for path in (repository / ".git").rglob("*") if path.is_dir()]
    for path in (repository / ".git", *folders):
        path.chmod(0o555)
    line = here.refused(*TAKE, code=3, bound=True)
    for path in (repository / ".git", *folders):
        path.chmod(0o755)
    assert "insufficient permission" in line


def test_no_git(here: Here, tmp_path: Path) -> None:
    """The line says what to install."""
    line = here.refused(*TAKE, code=3, PATH=str(tmp_path))
    assert line == "--snapshot needs Git, which is not installed; install it"


# Branches.


@pytest.mark.parametrize(
    "name",
    [
        *("a..b", "a b", "a~1", "a^", "a:b", "-x", "@{-1}", "a.lock", "/a", "a/", ".a", "a//b"),
        *("HEAD", "a?", "a*", "a[", "a\\b", "a\x1b[2Jb", "\u0001"),
    ],
)
def test_a_branch_name_that_git_refuses(here: Here, repository: Path, name: str) -> None:
    """The line shows the name such that it harms no terminal."""
    assert repository
    line = here.refused(*TAKE, f"--snapshot-branch={name}")
    assert line.startswith("Git takes no branch called ")
    assert line.endswith("; choose another name")
    assert line.isprintable()


def test_a_branch_that_is_no_progress_branch(here: Here, repository: Path) -> None:
    """The user's branches are not written to, wherever they are named."""
    git(repository, "branch", "feature")
    for command in (TAKE, PULL, PUSH, ("snapshot", "log", *NAMES), ("snapshot", "show", *NAMES)):
        line = refused(here, *command, "--snapshot-branch", "feature")
        assert "the branch feature is there and is no progress branch" in line
    assert "no progress branch" in here.refused("status", "--branch", "feature")


def test_a_branch_that_is_checked_out(here: Here, repository: Path, tmp_path: Path) -> None:
    """Its work tree would be behind at once; the line has the folder, here or elsewhere."""
    line = here.refused(*TAKE, "--snapshot-branch", "main")
    assert f"the branch main is checked out in {repository}; " in line
    assert here.evalset(*TAKE).returncode == 0
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "tree"), BRANCH)
    line = here.refused(*TAKE)
    assert f"the branch {BRANCH} is checked out in {tmp_path / 'tree'}; " in line


def test_a_branch_whose_name_is_in_the_way_of_another(here: Here, repository: Path) -> None:
    """Git keeps no branch `evalset` next to `evalset/...`; the line says which one is there."""
    git(repository, "branch", "evalset")
    line = here.refused(*TAKE)
    assert f"Git cannot have a branch {BRANCH} because there is evalset" in line
    assert here.evalset(*TAKE, "--snapshot-branch", "other/x").returncode == 0
    line = here.refused(*TAKE, "--snapshot-branch", "other")
    assert "Git cannot have a branch other because there is other/x" in line


@pytest.mark.parametrize("command", ["log", "show", "push"])
def test_a_branch_that_is_not_there(here: Here, repository: Path, command: str) -> None:
    """The line has its name, and what makes it."""
    assert repository
    line = here.refused(
        "snapshot", command, *NAMES, *(["--remote", "."] if command == "push" else [])
    )
    assert f"there is no branch {BRANCH}" in line
    assert "`evalset snapshot take` makes it" in line


def test_a_branch_without_that_model(here: Here, repository: Path) -> None:
    """The line says what the branch has."""
    assert repository
    assert here.evalset(*TAKE).returncode == 0
    line = here.refused("status", "other", "mine", "--branch", BRANCH)
    assert line == f"the branch {BRANCH} has no other mine; it has dummy mine"


# Options.


@pytest.mark.parametrize(
    ("command", "option", "fact"),
    [
        (TAKE, "--snapshot-max-file=lots", "`lots`"),
        (TAKE, "--snapshot-every=1s", "No such option"),
        (RUN, "--snapshot-every=soon", "`soon`"),
        (RUN, "--snapshot-every=0", "must be above zero"),
        (RUN, "--snapshot-max-file=-1", "`-1`"),
        (("status",), "--json", "MODEL and EVAL_SET are missing"),
        (("snapshot", "show", *NAMES), "abcdef", "abcdef is no snapshot"),
    ],
)
def test_an_option_that_cannot_be(
    here: Here, repository: Path, command: tuple[str, ...], option: str, fact: str
) -> None:
    """The line has what is wrong."""
    assert repository
    assert here.evalset(*TAKE).returncode == 0
    assert fact in here.refused(*command, option)


def test_no_progress(here: Here, repository: Path) -> None:
    """There is nothing to take a snapshot of; the line says what shows what there is."""
    assert repository
    line = here.refused("snapshot", "take", "other", "mine")
    assert "has no progress of other mine; `evalset list progress`" in line


# The same before a run, which starts nothing then.


@pytest.mark.docker
def test_a_run_that_cannot_take_snapshots_does_not_start(here_with_engine: Here, hub: Path) -> None:
    """Branch, repository and remote are looked at before the first eval starts."""
    here = here_with_engine
    begin(here.folder)
    commit(here.folder, "one\n")
    git(here.folder, "branch", "feature")
    for options, code, fact in (
        (["--snapshot-repo", "missing"], 2, "is no Git repository"),
        (["--snapshot-branch", "a..b"], 2, "Git takes no branch called 'a..b'"),
        (["--snapshot-branch", "feature"], 2, "is no progress branch"),
        (["--snapshot-branch", "main"], 2, "is checked out"),
        (["--remote", "upstream"], 2, "has no remote of that name"),
        (["--remote", "/nonexistent/x.git"], 3, "the remote /nonexistent/x.git cannot be used"),
        (["--remote", "git://127.0.0.1:1/x"], 3, "cannot be used"),
    ):
        assert fact in refused(here, *RUN, *options, code=code)
    git(here.folder, "push", "--quiet", str(hub), f"main:{BRANCH}")
    before = contents(hub)
    line = only_line(here.evalset(*RUN, "--remote", str(hub)), 2)
    assert "is no progress branch" in line
    assert contents(hub) == before


@pytest.mark.parametrize(
    "option", ["--remote=x", "--snapshot-branch=x", "--snapshot-repo=x", "--snapshot-answers"]
)
def test_an_option_about_snapshots_without_snapshots(here: Here, option: str) -> None:
    """Nobody shall believe that their progress is safe."""
    line = here.refused("run", "dummy", "mine", option)
    assert line.startswith(f"{option.partition('=')[0]} needs --snapshot; add that")


@pytest.mark.parametrize(
    "command", [("status", "--branch", BRANCH), ("snapshot", "log", *NAMES)], ids=str
)
def test_reading_makes_no_repository(here: Here, command: tuple[str, ...]) -> None:
    """Where there is none, there is no branch either."""
    line = here.refused(*command)
    assert "there is no branch" in line


def test_what_a_commit_says_is_no_command_on_actions(here: Here, repository: Path) -> None:
    """Whoever may push to the branch writes its messages."""
    assert here.evalset(*TAKE).returncode == 0
    tree = git(repository, "rev-parse", f"{BRANCH}^{{tree}}")
    message = "##[error]a\n\nEvalset-::error::b: c\n"
    commit = git(repository, "commit-tree", tree, "-p", BRANCH, "-m", message)
    git(repository, "update-ref", f"refs/heads/{BRANCH}", commit)
    for command in ("log", "show"):
        said = here.evalset("snapshot", command, *NAMES, GITHUB_ACTIONS="true").stdout
        assert "##[" not in said
        assert not any(line.startswith("::error") for line in said.splitlines())

"""Bad input about the remote of snapshots gets one clear line, and nothing is changed."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.branch.desk import git
from tests.commands.conftest import Here, contents, only_line
from tests.commands.refusal import refused
from tests.commands.repositories import (
    BRANCH,
    PULL,
    PUSH,
    RUN,
    TAKE,
    begin,
    not_ours,
    refuse_with_a_hook,
)


def test_a_branch_of_the_remote_that_is_no_progress_branch(
    here: Here, repository: Path, hub: Path
) -> None:
    """It is left as it is, there and here."""
    git(repository, "push", "--quiet", str(hub), f"main:{BRANCH}")
    assert here.evalset(*TAKE).returncode == 0
    before = not_ours(contents(repository)), contents(hub), git(repository, "rev-parse", BRANCH)
    for command, code in ((PULL, 2), (PUSH, 2)):
        line = only_line(here.evalset(*command, "--remote", str(hub)), code)
        assert f"the branch {BRANCH} is there and is no progress branch" in line
    assert (
        not_ours(contents(repository)),
        contents(hub),
        git(repository, "rev-parse", BRANCH),
    ) == before


def test_a_remote_that_is_not_known(here: Here, repository: Path) -> None:
    """The line has those that are."""
    line = here.refused(*TAKE, "--remote", "upstream")
    assert "has no remote of that name (it has none)" in line
    git(repository, "remote", "add", "origin", "/nonexistent")
    line = here.refused(*TAKE, "--remote", "upstream")
    assert "has no remote of that name (it has origin)" in line


def test_no_remote_to_push_to(here: Here, repository: Path) -> None:
    """The line says how to name one."""
    assert repository
    assert here.evalset(*TAKE).returncode == 0
    for options in ([], ["--remote", "none"]):
        line = here.refused(*PUSH, *options)
        assert line.startswith("there is no remote to push to; ")


def take_the_rights(hub: Path) -> None:
    """Let nobody write there."""
    for path in (hub, *hub.rglob("*")):
        if path.is_dir():
            path.chmod(0o555)


@pytest.mark.parametrize(
    ("refuse", "why"),
    [(refuse_with_a_hook, "pre-receive hook declined"), (take_the_rights, "unpacker error")],
)
def test_a_remote_without_rights(
    here: Here, repository: Path, hub: Path, refuse: Callable[[Path], None], why: str
) -> None:
    """The snapshot stays here; the line says why, and that it can be retried."""
    refuse(hub)
    assert here.evalset(*TAKE).returncode == 0
    before = contents(repository)
    line = only_line(here.evalset(*PUSH, "--remote", str(hub), bound=True), 4)
    assert contents(repository) == before
    assert line.startswith(f"{BRANCH} is not pushed to {hub}: ")
    assert why in line
    assert line.endswith("; check the network and your permissions, and run this again")


@pytest.mark.parametrize("scheme", ["git", "http", "ssh"])
def test_a_remote_that_is_away(here: Here, repository: Path, scheme: str) -> None:
    """One line says so, whatever the protocol; a name or password in the address is not shown."""
    assert repository
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert here.evalset(*TAKE).returncode == 0
    user = "" if scheme == "git" else "me:hunter2@"
    line = here.refused(*PUSH, "--remote", f"{scheme}://{user}127.0.0.1:{port}/x.git", code=4)
    assert f"is not pushed to {scheme}://127.0.0.1:{port}/x.git: " in line
    assert "hunter2" not in line
    line = refused(here, *PULL, "--remote", f"{scheme}://{user}127.0.0.1:{port}/x.git", code=3)
    assert f"the remote {scheme}://127.0.0.1:{port}/x.git cannot be used: " in line
    assert "hunter2" not in line


@pytest.mark.docker
def test_a_run_whose_remote_refuses_does_not_start(here_with_engine: Here, hub: Path) -> None:
    """The first push shows it, before an eval has cost anything."""
    here = here_with_engine
    begin(here.folder)
    refuse_with_a_hook(hub)
    ended = here.evalset(*RUN, "--remote", str(hub))
    assert ended.returncode == 3
    assert "pre-receive hook declined" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert (
        not (here.folder / "progress/oaievalset/dummy.mine.attempts.jsonl").exists()
        or not (here.folder / "progress/oaievalset/dummy.mine.attempts.jsonl").read_bytes()
    )


def test_a_remote_that_is_empty(here: Here, repository: Path) -> None:
    """A shell's variable may not be set; the current folder is not meant."""
    assert repository
    line = here.refused(*TAKE, "--remote", "")
    assert "--remote is empty" in line

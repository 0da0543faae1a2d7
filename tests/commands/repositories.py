"""Repositories in which the tests of the command line take snapshots."""

import re
from pathlib import Path

from tests.branch.desk import git

BRANCH = "evalset/dummy.mine"
NAMES = ("dummy", "mine")
TAKE = ("snapshot", "take", *NAMES)
PULL = ("snapshot", "pull", *NAMES)
PUSH = ("snapshot", "push", *NAMES)
RUN = ("run", *NAMES, "--registry-path", "own", "--snapshot")
FINISHED = "oaievalset/dummy.mine.progress.txt"

# What a snapshot adds to a repository, and the lock that stays, empty, once it was held.
OURS = re.compile(
    r"/\.git/(objects|(logs/)?refs/(heads/)?evalset)(/|$)"
    r"|/\.git/logs(/refs(/heads)?)?$"
    r"|/progress/oaievalset/dummy\.mine\.lock$"
)


def not_ours(found: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """The contents of a folder and its repository, without what snapshots may add."""
    return {path: content for path, content in found.items() if not OURS.search(path)}


def begin(folder: Path, *options: str) -> Path:
    """Make a repository of a folder, without a commit, whose user has a name."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main", *options)
    config = folder / ("config" if "--bare" in options else ".git/config")
    with config.open("a") as file:
        file.write("[user]\nname = A User\nemail = user@example.org\n")
    return folder


def commit(folder: Path, content: str) -> None:
    """Commit a change of a file."""
    (folder / "file").write_text(content)
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", f"--message={content.strip()}")


def refuse_with_a_hook(hub: Path) -> None:
    """Let the remote refuse, as a protected branch does."""
    hook = hub / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'you may not push here' >&2\nexit 1\n")
    hook.chmod(0o755)

"""Many writers at once on one branch of one bare repository."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.branch.desk import BRANCH, git, make_bare, make_clone

ROOT = Path(__file__).parents[2]


def write_at_once(folder: Path, hub: Path, *, writers: int, snapshots: int) -> list[int]:
    """Let `writers` processes take `snapshots` snapshots each, and push every one.

    Half of them have a clone of the remote, the others a bare repository of their own.

    Returns:
        How many pushes each writer needed.
    """
    start = folder / "start"
    processes = []
    for number in range(writers):
        name = f"w{number}"
        place = folder / name / "repository"
        repository = make_bare(place) if number % 2 else make_clone(place, remote=hub)
        remote = str(hub) if number % 2 else "origin"
        line: list[str | Path] = [
            *(sys.executable, "-m", "tests.branch.writer", folder / name, name, repository, remote),
            *(str(snapshots), start),
        ]
        processes.append(
            subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
            )
        )
    start.touch()
    return [_pushes(process) for process in processes]


def _pushes(process: "subprocess.Popen[str]") -> int:
    said, error = process.communicate()
    assert process.returncode == 0, error
    return int(said)


def landed(hub: Path) -> Sequence[str]:
    """The names of the logs on the remote's branch."""
    paths = git(hub, "ls-tree", "-r", "--name-only", f"refs/heads/{BRANCH}", "evallogs/")
    return paths.splitlines()


def missing(hub: Path, *, writers: int, snapshots: int) -> list[str]:
    """Evals that were put on record, and are not whole on the remote's branch."""
    expected = [f"w{writer}-{number}" for writer in range(writers) for number in range(snapshots)]
    logs = set(landed(hub))
    finished = git(hub, "show", f"refs/heads/{BRANCH}:oaievalset/m.s.progress.txt")
    attempts = git(hub, "show", f"refs/heads/{BRANCH}:oaievalset/m.s.attempts.jsonl")
    page = git(hub, "show", f"refs/heads/{BRANCH}:README.md")
    assert f"{len(expected)} of {len(expected)} evals finished" in page
    return [
        name
        for name in expected
        if finished.count(f'"{name}"') != 1
        or attempts.count(f'"eval":"{name}"') != 1
        or not any(path.endswith(f"_m_{name}.jsonl") for path in logs)
    ]

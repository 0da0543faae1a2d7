"""A progress directory next to a Git repository, in which snapshots are taken."""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec

from runner.branch.progress_branch import About
from runner.branch.snapshots import Snapshots, open_snapshots
from runner.host import Host
from runner.model import Attempt
from runner.options import SnapshotOptions
from runner.plan.pins import RunFile
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile, read_attempts, read_progress
from runner.records.run_file import next_generation, read_run_file, write_run_file
from tests.outcomes import failure, job, success

BRANCH = "evalset/m.s"
# Of a progress file.
LINE = '["oaieval", "dummy", "{}"]\n'


def git(folder: Path, *arguments: str) -> str:
    """Run the user's Git in a folder."""
    said = subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
    )
    return said.stdout.rstrip("\n")


@cache
def _original() -> Path:
    """What all clones of a session are copies of: Git needs seven processes to make one."""
    place = tempfile.TemporaryDirectory(prefix="evalset-clone-")
    atexit.register(place.cleanup)
    folder = Path(place.name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "A User")
    git(folder, "config", "user.email", "user@example.org")
    (folder / "file").write_text("committed\n")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "--message=first")
    (folder / "file").write_text("changed\n")
    (folder / "added").write_text("added\n")
    git(folder, "add", "added")
    return folder


def make_clone(folder: Path, *, remote: Path | None = None) -> Path:
    """A repository with a commit, a file that was changed, and one that was added."""
    shutil.copytree(_original(), folder)
    if remote is not None:
        git(folder, "remote", "add", "origin", str(remote))
    return folder


def make_bare(folder: Path) -> Path:
    """A bare repository."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--bare")
    return folder


class Desk(msgspec.Struct, frozen=True):
    """Where one host works.

    Attributes:
        folder: of its own.
        clone: its repository.
        name: of the host.
        eval_set: that it runs.
    """

    folder: Path
    clone: Path
    name: str = "host"
    eval_set: str = "s"

    @property
    def layout(self) -> Layout:
        """Of the model `m` and the eval set."""
        return Layout(root=self.folder / "progress", model="m", eval_set=self.eval_set)

    def record(self, *outcomes: Attempt, log: bytes = b'{"event": 1}\n') -> None:
        """Put outcomes on record as a run does, each with a log."""
        with_logs = []
        for outcome in outcomes:
            name = f"evallogs/{outcome.id}_m_{outcome.eval}.jsonl"
            path = self.layout.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(log)
            with_logs.append(msgspec.structs.replace(outcome, host=self.name, logs=(name,)))
        with AttemptsFile(self.layout.attempts) as file:
            file.add_records(*with_logs)
        with ProgressFile(self.layout.progress) as file:
            file.add_commands(*(each.command for each in with_logs if each.exit_code == 0))

    def succeed(self, *evals: str, log: bytes = b'{"event": 1}\n') -> None:
        """Put successes on record."""
        outcomes = [success(job(name), attempt=f"{self.name}{name}") for name in evals]
        self.record(*outcomes, log=log)

    def fail(self, name: str) -> None:
        """Put a failure on record."""
        self.record(failure(job(name), attempt=f"{self.name}{name}"))

    def plan(
        self, *evals: str, run: str = "261121031336WEBUOFVI", in_eval_set: int | None = None
    ) -> None:
        """Write the run's file."""
        pinned = RunFile(
            run=run,
            model="m",
            eval_set=self.eval_set,
            image="image",
            image_id="sha256:1",
            commands=tuple(job(name).command for name in evals),
            in_eval_set=in_eval_set,
            limits={},
            generation=next_generation(self.layout, read_run_file(self.layout.run)),
        )
        write_run_file(self.layout, pinned)

    def finished(self) -> list[str]:
        """Evals in the progress file."""
        return [command[2] for command in read_progress(self.layout.progress).commands]

    def attempted(self) -> list[str]:
        """Evals in the attempts file."""
        return [record.eval for record in read_attempts(self.layout.attempts).records]

    @contextmanager
    def snapshots(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        remote: str | None = None,
        max_file: int = 50 * 2**20,
        branch: str | None = None,
        answers: bool = False,
        every: float = 60,
    ) -> Iterator[tuple[Snapshots, list[str]]]:
        """The snapshots of this desk, and the warnings that they give."""
        warnings: list[str] = []
        host = Host(
            environ=os.environ, home=self.folder, cache=self.folder, name=self.name, user="0:0"
        )
        where = SnapshotOptions(
            branch=branch,
            repo=self.clone,
            remote=remote,
            max_file=max_file,
            answers=answers,
            every=every,
        )
        about = About(model="m", eval_set=self.eval_set, host=self.name)
        with open_snapshots(
            where,
            self.layout,
            host,
            about=about,
            environment=environment or {},
            warn=warnings.append,
        ) as snapshots:
            yield snapshots, warnings

    def on_branch(self, path: str, *, branch: str = BRANCH) -> str:
        """What a file on the branch says."""
        return git(self.clone, "show", f"{branch}:{path}")

    def files_on_branch(self, *, branch: str = BRANCH) -> list[str]:
        """Every path on the branch."""
        return git(self.clone, "ls-tree", "-r", "--name-only", branch).splitlines()

    def subjects(self, *, branch: str = BRANCH) -> list[str]:
        """What the snapshots say, the newest first."""
        return git(self.clone, "log", "--format=%s", branch).splitlines()


def put_on_branch(desk: Desk, path: str, content: bytes, *, mode: str = "100644") -> None:
    """Write a file on the branch as anyone who may push to it can, and push it."""

    def run(*line: str, stdin: bytes = b"") -> str:
        environ = os.environ | {"GIT_INDEX_FILE": str(desk.folder / "index")}
        said = subprocess.run(
            ["git", "-C", desk.clone, *line],
            input=stdin,
            capture_output=True,
            check=True,
            env=environ,
        )
        return said.stdout.decode().strip()

    blob = run("hash-object", "-w", "--stdin", stdin=content)
    run("read-tree", BRANCH)
    run("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
    commit = run("commit-tree", run("write-tree"), "-p", BRANCH, "-m", "by hand")
    run("update-ref", f"refs/heads/{BRANCH}", commit)
    run("push", "--quiet", "origin", BRANCH)

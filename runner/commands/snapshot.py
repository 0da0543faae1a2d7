import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.commands.group import Group
from runner.errors import NotPushed, UsageError
from runner.host import this_host, variables_for_containers
from runner.options import (
    MAX_FILE,
    PROGRESS_DIR,
    AsJson,
    Env,
    EnvFile,
    EvalSet,
    MaxFile,
    Model,
    ProgressDir,
    RemoteName,
    RemoteToRead,
    SnapshotAnswers,
    SnapshotBranch,
    SnapshotOptions,
    SnapshotRepo,
)
from runner.parameters import Argument
from runner.records.layout import Layout
from runner.records.run_lock import run_lock
from runner.records.state import RunState
from runner.report.text import evals, plain_line, print_warning

if TYPE_CHECKING:
    from runner.branch.progress_branch import ProgressBranch, Snapshot
    from runner.branch.snapshots import Snapshots


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which snapshots, and where they are."""

    model: Model
    eval_set: EvalSet
    progress_dir: ProgressDir = PROGRESS_DIR
    branch: SnapshotBranch = None
    repo: SnapshotRepo = None
    remote: RemoteName = None

    @property
    def layout(self) -> Layout:
        """Where the run's files are."""
        return Layout.named(self.progress_dir, self.model, self.eval_set)

    def options(self, *, max_file: int = MAX_FILE, answers: bool = False) -> SnapshotOptions:
        """The same as a run has it."""
        return SnapshotOptions(
            branch=self.branch,
            repo=self.repo,
            remote=self.remote,
            max_file=max_file,
            answers=answers,
        )


class WhereToRead(Where, frozen=True, kw_only=True):
    """The same, for a command that pushes nothing."""

    remote: RemoteToRead = None


@click.group(cls=Group, epilog="Example: evalset snapshot log gpt-4 test-basic")
def command() -> None:
    """Commit, fetch, push, list or show snapshots of progress by hand."""


@evalset_command("evalset snapshot take gpt-4 test-basic", group=command)
def take(
    where: Where,
    max_file: MaxFile = MAX_FILE,
    env: Annotated[Env, "Keep out what holds the value of this variable."] = (),
    env_file: Annotated[EnvFile, "Keep out what holds a value from this file."] = None,
    *,
    answers: Annotated[SnapshotAnswers, "Put the providers' answers on the branch, too."] = False,
) -> None:
    """Commit the progress directory to its branch as it is; pushes nothing."""
    layout = where.layout
    if not any(path.exists() for path in layout.kept):
        raise layout.no_progress()
    options = where.options(max_file=max_file, answers=answers)
    with _sharing(where, options, env, env_file) as snapshots:
        taken = snapshots.take()
        what = "taken" if taken else "nothing is new since"
        _say(f"{what}: {snapshots.tip} on {snapshots.branch.name}")


@evalset_command("evalset snapshot pull gpt-4 test-basic", group=command)
def pull(
    where: WhereToRead,
    *,
    answers: Annotated[SnapshotAnswers, "Take over the answers that it has, too."] = False,
) -> None:
    """Fetch the branch, and merge what it has into the progress directory."""
    layout = where.layout
    with run_lock(layout.lock), _sharing(where, where.options(answers=answers)) as snapshots:
        restored = snapshots.restore(warn=print_warning)
        if snapshots.tip is None:
            raise UsageError(
                f"there is no branch {snapshots.branch.name}, here or at a remote",
                "`evalset snapshot take` makes it",
            )
        taken_over = [
            *([evals(restored.finished)] if restored.finished else []),
            *([f"answers of providers ({restored.answers})"] if restored.answers else []),
        ]
        what = f"took over {' and '.join(taken_over)}" if taken_over else "nothing is new"
        _say(f"{what}: {snapshots.tip} on {snapshots.branch.name}")
        if left := restored.about_left(snapshots.branch.name):
            _say(left)


@evalset_command("evalset snapshot push gpt-4 test-basic", group=command)
def push(where: Where) -> None:
    """Push the branch, merged with what other hosts have pushed."""
    from runner.branch.remote import OvertakenError, RemoteError

    with _sharing(where, where.options()) as snapshots:
        remote = snapshots.remote
        if remote is None:
            raise UsageError(
                "there is no remote to push to", "name one with --remote NAME or --remote URL"
            )
        if snapshots.tip is None:
            raise UsageError(
                f"there is no branch {snapshots.branch.name} here",
                "`evalset snapshot take` makes it",
            )
        try:
            snapshots.push()
        except (RemoteError, OvertakenError) as error:
            raise NotPushed(
                f"{snapshots.branch.name} is not pushed to {remote.public_address}: {error}",
                "check the network and your permissions, and run this again",
            ) from error
        _say(f"pushed: {snapshots.tip} on {snapshots.branch.name} to {remote.public_address}")


@evalset_command("evalset snapshot log gpt-4 test-basic", group=command)
def log(where: WhereToRead, *, as_json: AsJson = False) -> None:
    """List the snapshots, the newest first."""
    from runner.branch.progress_branch import history

    with _branch(where) as (branch, tip):
        found = history(branch, tip)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    for one in found:
        _say(f"{one.commit[:10]}  {one.at}  {one.trailers.get('host', '')}  {one.subject}")


@evalset_command("evalset snapshot show gpt-4 test-basic", group=command)
def show(
    where: WhereToRead,
    commit: Annotated[str | None, Argument()] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show one snapshot, the newest if none is named."""
    from runner.branch.progress_branch import history

    with _branch(where) as (branch, tip):
        shown = _chosen(history(branch, tip), commit, branch.name)
        runs = RunState.from_branch(branch.states(shown.commit), source=branch.name)
    if as_json:
        print(msgspec.json.encode(shown).decode())
        return
    from runner.report.table import print_table

    _say(f"{shown.commit}  {shown.at}  {shown.subject}")
    for name, value in shown.trailers.items():
        _say(f"{name}: {value}")
    for run in runs:
        _say("")
        _say(f"{run.model} {run.eval_set}")
        print_table(sys.stdout, run.evals())


@contextmanager
def _sharing(
    where: Where, options: SnapshotOptions, env: Sequence[str] = (), env_file: Path | None = None
) -> "Iterator[Snapshots]":
    from runner.branch.progress_branch import About
    from runner.branch.snapshots import open_snapshots

    host = this_host()
    about = About(model=where.model, eval_set=where.eval_set, host=host.name)
    environment = variables_for_containers(
        host.environ, names=env, env_file=env_file, model=where.model
    )
    with open_snapshots(
        options, where.layout, host, about=about, environment=environment, warn=print_warning
    ) as snapshots:
        yield snapshots


@contextmanager
def _branch(where: Where) -> Iterator[tuple["ProgressBranch", str]]:
    """The branch here, or else the remote's, and its newest snapshot."""
    from runner.branch.progress_branch import default_branch, open_branch
    from runner.branch.remote import reaching

    name = where.branch or default_branch(where.model, where.eval_set)
    with open_branch(where.options(), where.layout.root, this_host(), name=name) as branch:
        remote = branch.remote
        tip = branch.tip()
        if tip is None:
            with reaching(remote):
                tip = branch.fetch()
        if tip is None:
            place = f"here or at {remote.public_address}" if remote else "here"
            raise UsageError(
                f"there is no branch {name} {place}",
                "`evalset snapshot take` makes it, and --remote says where else to look",
            )
        yield branch, tip


def _say(line: str) -> None:
    print(plain_line(line))


def _chosen(found: "Sequence[Snapshot]", commit: str | None, branch: str) -> "Snapshot":
    if commit is None:
        return found[0]
    matching = [one for one in found if one.commit.startswith(commit.lower())]
    if len(matching) != 1:
        many = "several snapshots" if matching else "no snapshot"
        raise UsageError(f"{commit} is {many} of {branch}", "`evalset snapshot log` lists them")
    return matching[0]

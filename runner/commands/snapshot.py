import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from runner.branch.progress_branch import (
    About,
    ProgressBranch,
    Snapshot,
    default_branch,
    history,
    open_branch,
)
from runner.branch.remote import OvertakenError, RemoteError, reaching
from runner.branch.snapshots import Snapshots, open_snapshots
from runner.commands.parameters import Body, as_json, progress_dir, snapshot_max_file, snapshots
from runner.commands.parsing import ConfiguredCommand, complete_eval_set, complete_model
from runner.errors import NotPushed, UsageError
from runner.host import handed_in, this_host
from runner.model import check_names
from runner.options import SnapshotOptions
from runner.records.layout import Layout
from runner.records.lock import run_lock
from runner.records.state import RunState
from runner.report.table import print_table
from runner.report.text import evals, inert, one_line


class Snapshotting(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of one model and eval set, as commands by hand see them.

    Attributes:
        root: the progress directory.
        model: as given to `oaieval`.
        eval_set: name of the eval set.
        options: where the snapshots go.
        env: names of variables whose values are kept out besides those of the usual ones.
        env_file: a file of such variables.
        out: where to say what was done.
    """

    root: Path
    model: str
    eval_set: str
    options: SnapshotOptions
    env: tuple[str, ...] = ()
    env_file: Path | None = None
    out: TextIO

    def take(self) -> None:
        """Commit the progress directory as it is."""
        layout = self._layout()
        if not any(path.exists() for path in layout.kept):
            raise UsageError(
                f"{layout.root} has no progress of {self.model} {self.eval_set}; "
                "`evalset list progress` shows what it has"
            )
        with self._sharing(layout) as snapshots:
            taken = snapshots.take()
            what = "taken" if taken else "nothing is new since"
            self._say(f"{what}: {snapshots.tip} on {snapshots.branch.name}")

    def pull(self) -> None:
        """Fetch the branch, and bring what it has into the progress directory."""
        layout = self._layout()
        with run_lock(layout.lock), self._sharing(layout) as snapshots:
            added = snapshots.restore(warn=self._warn)
            if snapshots.tip is None:
                raise UsageError(
                    f"there is no branch {snapshots.branch.name}, here or at a remote; "
                    "`evalset snapshot take` makes it"
                )
            what = f"took over {evals(added)}" if added else "nothing is new"
            self._say(f"{what}: {snapshots.tip} on {snapshots.branch.name}")

    def push(self) -> None:
        """Push the branch, merged with what others have pushed."""
        with self._sharing(self._layout()) as snapshots:
            remote = snapshots.remote
            if remote is None:
                raise UsageError(
                    "there is no remote to push to; name one with --remote NAME or --remote URL"
                )
            if snapshots.tip is None:
                raise UsageError(
                    f"there is no branch {snapshots.branch.name} here; "
                    "`evalset snapshot take` makes it"
                )
            try:
                snapshots.push()
            except (RemoteError, OvertakenError) as error:
                raise NotPushed(
                    f"{snapshots.branch.name} is not pushed to {remote.shown}: {error}; "
                    "check the network and your rights, and run this again"
                ) from error
            self._say(f"pushed: {snapshots.tip} on {snapshots.branch.name} to {remote.shown}")

    def log(self, *, as_json: bool) -> None:
        """List the snapshots, the newest first."""
        with self._branch() as (branch, tip):
            found = history(branch, tip)
        if as_json:
            print(msgspec.json.encode(found).decode(), file=self.out)
            return
        for one in found:
            self._say(f"{one.commit[:10]}  {one.at}  {one.trailers.get('host', '')}  {one.subject}")

    def show(self, commit: str | None, *, as_json: bool) -> None:
        """Show one snapshot, the newest if none is named: where it was taken, and its table."""
        with self._branch() as (branch, tip):
            shown = _chosen(history(branch, tip), commit, branch.name)
            runs = RunState.from_branch(branch.states(shown.commit), source=branch.name)
        if as_json:
            print(msgspec.json.encode(shown).decode(), file=self.out)
            return
        self._say(f"{shown.commit}  {shown.at}  {shown.subject}")
        for name, value in shown.trailers.items():
            self._say(f"{name}: {value}")
        for run in runs:
            self._say("")
            self._say(f"{run.model} {run.eval_set}")
            print_table(self.out, run.evals())

    @contextmanager
    def _sharing(self, layout: Layout) -> Iterator[Snapshots]:
        host = this_host()
        about = About(model=self.model, eval_set=self.eval_set, host=host.name)
        environment = handed_in(
            host.environ, names=self.env, env_file=self.env_file, model=self.model
        )
        with open_snapshots(
            self.options, layout, host, about=about, environment=environment, warn=self._warn
        ) as snapshots:
            yield snapshots

    @contextmanager
    def _branch(self) -> Iterator[tuple[ProgressBranch, str]]:
        """The branch here, or else the remote's, and its newest snapshot."""
        layout = self._layout()
        name = self.options.branch or default_branch(self.model, self.eval_set)
        with open_branch(self.options, layout.root, this_host(), name=name) as branch:
            remote = branch.remote
            tip = branch.tip()
            if tip is None:
                with reaching(remote):
                    tip = branch.fetch()
            if tip is None:
                where = f"here or at {remote.shown}" if remote else "here"
                raise UsageError(
                    f"there is no branch {name} {where}; `evalset snapshot take` makes it, and "
                    "--remote says where else to look"
                )
            yield branch, tip

    def _say(self, line: str) -> None:
        print(inert(one_line(line)), file=self.out)

    def _warn(self, line: str) -> None:
        print(inert(one_line(f"warning: {line}")), file=sys.stderr)

    def _layout(self) -> Layout:
        check_names(self.model, self.eval_set)
        return Layout(root=self.root.resolve(), model=self.model, eval_set=self.eval_set)


def _chosen(found: Sequence[Snapshot], commit: str | None, branch: str) -> Snapshot:
    if commit is None:
        return found[0]
    matching = [one for one in found if one.commit.startswith(commit.lower())]
    if len(matching) != 1:
        many = "several snapshots" if matching else "no snapshot"
        raise UsageError(f"{commit} is {many} of {branch}; `evalset snapshot log` lists them")
    return matching[0]


@click.group(epilog="Example: evalset snapshot log gpt-4 test-basic")
def command() -> None:
    """Commit, fetch, push, list or show snapshots of progress by hand."""


def _names(function: Body) -> Body:
    """The arguments and options that all of these take."""
    for decorator in (
        snapshots,
        progress_dir,
        click.argument("eval_set", shell_complete=complete_eval_set),
        click.argument("model", shell_complete=complete_model),
    ):
        function = decorator(function)
    return function


def _snapshotting(given: dict[str, Any]) -> Any:  # noqa: ANN401 - imported after parsing
    from runner.commands.parameters import snapshot_options

    return Snapshotting(
        root=Path(given["progress_dir"]),
        model=given["model"],
        eval_set=given["eval_set"],
        options=snapshot_options(given),
        env=tuple(given.get("env", ())),
        env_file=given.get("env_file"),
        out=sys.stdout,
    )


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot take gpt-4 test-basic")
@_names
@snapshot_max_file
@click.option(
    "-e",
    "--env",
    multiple=True,
    metavar="NAME",
    envvar="EVALSET_ENV",
    help="Keep out what holds the value of this variable, as it was handed in.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    envvar="EVALSET_ENV_FILE",
    help="Keep out what holds a value of this file.",
)
def take(**given: Any) -> None:  # noqa: ANN401 - any value
    """Commit the progress directory to its branch as it is; pushes nothing."""
    _snapshotting(given).take()


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot pull gpt-4 test-basic")
@_names
def pull(**given: Any) -> None:  # noqa: ANN401 - any value
    """Fetch the branch, and merge what it has into the progress directory."""
    _snapshotting(given).pull()


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot push gpt-4 test-basic")
@_names
def push(**given: Any) -> None:  # noqa: ANN401 - any value
    """Push the branch, merged with what other hosts have pushed."""
    _snapshotting(given).push()


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot log gpt-4 test-basic")
@_names
@as_json
def log(*, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - any value
    """List the snapshots, the newest first."""
    _snapshotting(given).log(as_json=as_json)


@command.command(cls=ConfiguredCommand, epilog="Example: evalset snapshot show gpt-4 test-basic")
@_names
@click.argument("commit", required=False)
@as_json
def show(*, commit: str | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - any value
    """Show one snapshot, the newest if none is named."""
    _snapshotting(given).show(commit, as_json=as_json)

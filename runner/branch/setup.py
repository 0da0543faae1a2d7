import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runner.branch.blobs import Blobs
from runner.branch.checkout import arrive
from runner.branch.git import Repository, find_repository, make_bare
from runner.branch.progress_branch import About, ProgressBranch, default_branch
from runner.branch.remote import OvertakenError, Remote, RemoteError
from runner.branch.snapshots import Snapshots
from runner.errors import EnvironmentFault, UsageError
from runner.host import Host
from runner.options import SnapshotOptions
from runner.records.folders import passing_folder
from runner.records.layout import Layout
from runner.records.state import RunState, StateReader
from runner.report.markdown import BranchPage
from runner.report.text import inert, one_line
from runner.secrets import Scanner


def both_tips(branch: ProgressBranch, remote: Remote | None) -> list[str]:
    """The newest snapshots of a branch, here and at its remote.

    Raises:
        UsageError: there is none.
    """
    theirs = None
    away = ""
    if remote is not None:
        try:
            theirs = remote.fetch(branch.name)
        except (RemoteError, OvertakenError) as error:
            away = f"the remote {remote.shown} cannot be used: {error}"
    here = branch.tip()
    if theirs is not None:
        branch.check(theirs)
    if here is None and theirs is None:
        raise UsageError(
            f"there is no branch {branch.name} in {branch.repository.git_dir}"
            f"{f' or at {remote.shown}' if remote else ''}{f': {away}' if away else ''}; "
            "`git branch --all --list '*evalset/*'` lists what is here"
        )
    if away:
        print(inert(one_line(f"warning: {away}; this is what is here")), file=sys.stderr)
    return [tip for tip in dict.fromkeys([here, theirs]) if tip is not None]


# The repository for snapshots where there is no other, below the progress directory.
OWN_REPOSITORY = ".snapshots.git"

# What `--remote` takes to keep snapshots on this host.
NO_REMOTE = "none"


@contextmanager
def sharing(
    options: SnapshotOptions,
    layout: Layout,
    host: Host,
    *,
    about: About,
    environment: Mapping[str, str],
    warn: Callable[[str], None],
) -> Iterator[Snapshots]:
    """The snapshots of a progress directory.

    Args:
        options: what was asked for.
        layout: of the progress directory.
        host: this machine.
        about: what the snapshots say of where they were taken.
        environment: variables that containers get, whose values are kept out.
        warn: takes one line about what is left out.
    """
    name = options.branch or default_branch(layout.model, layout.eval_set)
    with branch_of(options, layout.root, host, name=name, make=True) as (branch, remote, folder):
        branch.check_name()
        branch.check_free()
        blobs = Blobs(
            branch.repository,
            layout.root,
            scanner=Scanner(environment),
            max_file=options.max_file,
            host=host.name,
            folder=folder,
            warn=warn,
        )
        yield Snapshots(branch, layout, remote=remote, blobs=blobs, about=about, sleep=time.sleep)


@contextmanager
def branch_of(
    options: SnapshotOptions, root: Path, host: Host, *, name: str, make: bool = False
) -> Iterator[tuple[ProgressBranch, Remote | None, Path]]:
    """The progress branch, its remote, and a folder for what passes.

    Args:
        options: what was asked for.
        root: the progress directory.
        host: this machine.
        name: of the branch.
        make: whether a repository of our own may be made in the progress directory.
    """
    reader, made = StateReader(), BranchPage()

    def page(contents: Mapping[str, bytes]) -> bytes:
        return made.of(RunState.from_branch(contents, source=name, reader=reader))

    with passing_folder("snapshots") as folder:
        own = root / OWN_REPOSITORY
        place = own if make or own.exists() else folder / OWN_REPOSITORY
        repository = _repository(options, place, host)
        branch = ProgressBranch(repository, name, page=page, index=folder / "index")
        yield branch, _remote(options, repository), folder


@contextmanager
def reaching(remote: Remote | None) -> Iterator[None]:
    """Turn what a remote refuses into an error that ends a command."""
    shown = remote.shown if remote else ""
    try:
        yield
    except OvertakenError as error:
        raise EnvironmentFault(
            f"the remote {shown} is busy: others were faster each time; run this again"
        ) from error
    except RemoteError as error:
        raise EnvironmentFault(
            f"the remote {shown} cannot be used: {error}; check its address, the network "
            "and your rights, or keep snapshots on this host with --remote none"
        ) from error


def go_on_from_branch(snapshots: Snapshots, layout: Layout, *, warn: Callable[[str], None]) -> int:
    """Bring what the branch has into the progress directory.

    Returns:
        How many finished evals that added.
    """
    with reaching(snapshots.remote):
        snapshots.fetch()
    if snapshots.tip is None:
        return 0
    return arrive(snapshots.branch, snapshots.tip, layout, warn=warn)


def _repository(options: SnapshotOptions, own: Path, host: Host) -> Repository:
    if options.repo is not None:
        found = find_repository(options.repo, host=host.name) if options.repo.is_dir() else None
        if found is None:
            raise UsageError(
                f"--snapshot-repo {options.repo} is no Git repository; make one with "
                f"`git init --bare {options.repo}`, or leave the option out"
            )
        return found
    return find_repository(Path.cwd(), host=host.name) or make_bare(own, host=host.name)


def _remote(options: SnapshotOptions, repository: Repository) -> Remote | None:
    names = (repository.ask("remote") or "").split()
    asked = options.remote
    if asked == NO_REMOTE:
        return None
    if asked is None:
        name = _upstream(repository, names)
        return Remote(repository, name) if name else None
    if asked == "":
        raise UsageError("--remote is empty; give a name, an address, or `none`")
    if asked in names:
        return Remote(repository, asked)
    if "://" in asked or (":" in asked.partition("/")[0] and not Path(asked).exists()):
        return Remote(repository, asked)
    if "/" in asked or Path(asked).exists():
        return Remote(repository, os.path.abspath(asked))  # noqa: PTH100 - links stay as typed
    has = f"it has {', '.join(names)}" if names else "it has none"
    raise UsageError(
        f"--remote {asked}: {repository.git_dir} has no remote of that name ({has}); "
        "name one of them, or give an address"
    )


def _upstream(repository: Repository, names: list[str]) -> str | None:
    """The remote of the current branch, or else `origin`."""
    current = repository.ask("symbolic-ref", "--quiet", "--short", "HEAD")
    name = repository.ask("config", f"branch.{current}.remote") if current else None
    return next((one for one in (name, "origin") if one in names), None)

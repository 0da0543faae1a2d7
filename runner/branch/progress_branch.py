import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runner import __version__
from runner.branch.git import GitError, Repository, TreeEntry, find_repository, make_bare
from runner.branch.remote import PATIENCE, OvertakenError, Remote, RemoteError, choose_remote
from runner.errors import EnvironmentFault, UsageError
from runner.files import named
from runner.host import Host
from runner.options import SnapshotOptions
from runner.records.folders import temporary_folder
from runner.records.layout import Layout
from runner.records.snapshot import README, merge, merge_files
from runner.report.text import print_warning

# The repository for snapshots where there is no other, below the progress directory.
OWN_REPOSITORY = ".snapshots.git"

# What Git takes nowhere in a branch's name, and what would need quoting in a shell.
_REFUSED = re.compile(r"[^\w./+-]|\.\.+|/{2,}|@\{", re.ASCII)

# Of the state files of which a branch has at least one.
_KINDS = ("progress.txt", "attempts.jsonl", "run.json")

# What a snapshot has at its top.
TOP = {README, "answers", "evallogs", "oaievalset"}


def default_branch(model: str, eval_set: str) -> str:
    """The branch for the snapshots of a model and eval set, a name that Git takes.

    Where something of the names had to be replaced, a hash keeps the branch apart from others.
    """
    name = f"{model}.{eval_set}"
    parts = [
        part.strip(".").removesuffix(".lock") or "-" for part in _REFUSED.sub("-", name).split("/")
    ]
    legal = "/".join(parts)
    if legal != name:
        legal += f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return f"evalset/{legal}"


def state_prefix(layout: Layout) -> str:
    """How the paths of a model's and eval set's state files begin on a branch."""
    return str(layout.progress.relative_to(layout.root)).removesuffix("progress.txt")


class MovedError(EnvironmentFault):
    """Another process has moved the branch in this repository, or keeps it locked."""


class ProgressBranch:
    """A branch whose commits are snapshots; nothing is ever taken away from it.

    Attributes:
        name: without `refs/heads/`.
        remote: that it is pushed to; None if it stays in the repository.
        folder: for temporary files.
    """

    def __init__(
        self, repository: Repository, name: str, *, remote: Remote | None, folder: Path
    ) -> None:
        self.repository = repository
        self.name = name
        self.remote = remote
        self.folder = folder
        self._ref = f"refs/heads/{name}"
        # A private index: the user's own is never touched.
        self._index = {"GIT_INDEX_FILE": str(folder / "index")}
        self._in_index: str | None = None
        self._states: tuple[str | None, dict[str, bytes]] = (None, {})
        taken = repository.ask("check-ref-format", "--branch", name)
        if taken != name or name.startswith("refs/"):
            raise UsageError(f"Git takes no branch called {name!r}", "choose another name")

    def check_free(self) -> None:
        """Refuse to write where a work tree has the branch."""
        folder = self.repository.checked_out(self._ref)
        if folder is not None:
            raise UsageError(
                f"the branch {self.name} is checked out in {folder}",
                "check out another one there, or choose another --snapshot-branch",
            )

    def check_name(self) -> None:
        """Refuse a name that Git cannot have next to those of other branches."""
        below = ("for-each-ref", "--count=1", "--format=%(refname:short)", f"{self._ref}/")
        above = (self.name[: slash.start()] for slash in re.finditer("/", self.name))
        near = self.repository.ask(*below) or next(
            (name for name in above if self.repository.tip(f"refs/heads/{name}")), None
        )
        if near:
            raise UsageError(
                f"Git cannot have a branch {self.name} because there is {near}",
                "choose another --snapshot-branch",
            )

    def tip(self) -> str | None:
        """The newest snapshot here; None without one, UsageError if it is something else."""
        return self._checked(self.repository.tip(self._ref))

    def fetch(self, *, seconds: float = PATIENCE) -> str | None:
        """The remote's newest snapshot, brought here, as `tip` and `Remote.fetch` do."""
        return self._checked(self.remote.fetch(self.name, seconds=seconds)) if self.remote else None

    def _checked(self, commit: str | None) -> str | None:
        if commit is not None:
            names = self.repository.run("ls-tree", "--name-only", "-z", "--full-tree", commit)
            top = {name.decode(errors="replace") for name in names.split(b"\0")[:-1]}
            if "oaievalset" not in top or not top <= TOP:
                raise UsageError(
                    f"the branch {self.name} is there and is no progress branch",
                    "choose another name",
                )
        return commit

    def tips(self) -> list[str]:
        """The newest snapshots here and at the remote.

        Raises:
            UsageError: there is none.
            EnvironmentFault: there is none here, and the remote cannot be used.
        """
        theirs = None
        away = ""
        try:
            theirs = self.fetch()
        except (RemoteError, OvertakenError) as error:
            away = (
                f"the remote {self.remote and self.remote.public_address} cannot be used: {error}"
            )
        tips = dict.fromkeys(tip for tip in (self.tip(), theirs) if tip is not None)
        if not tips and away:
            raise EnvironmentFault(
                f"there is no branch {self.name} here, and {away}",
                "check its address, the network and your permissions",
            )
        if not tips and self.remote is not None:
            raise UsageError(
                f"there is no branch {self.name} here or at {self.remote.public_address}",
                f"`git ls-remote {self.remote.public_address}` lists what is there",
            )
        if not tips:
            raise UsageError(
                f"there is no branch {self.name} here", "`evalset snapshot take` makes it"
            )
        if away:
            print_warning(f"{away}; this is what is here")
        return list(tips)

    def states(self, commit: str | None) -> dict[str, bytes]:
        """The state files of a snapshot: what is below `oaievalset/`, by path."""
        if commit is None:
            return {}
        if self._states[0] != commit:
            entries = [
                entry
                for entry in self.repository.files(commit, "oaievalset/")
                if entry.path.isprintable() and entry.is_plain
            ]
            contents = self.repository.read([entry.oid for entry in entries])
            paths = [entry.path for entry in entries]
            self._states = (commit, dict(zip(paths, contents, strict=True)))
        return dict(self._states[1])

    def store(self, files: Mapping[str, Path], contents: Mapping[str, bytes]) -> list[TreeEntry]:
        """Store files, and contents that were made here; files in `folder` are deleted then."""
        paths = dict(files)
        for number, (name, content) in enumerate(contents.items()):
            paths[name] = self.folder / f"made-{number}"
            with named(paths[name], "write"):
                paths[name].write_bytes(content)
        entries = self.repository.store(paths)
        for path in paths.values():
            if path.parent == self.folder:
                path.unlink()
        return entries

    def put(
        self,
        parents: Sequence[str],
        entries: Iterable[TreeEntry],
        states: Mapping[str, bytes],
        message: str,
        *,
        old: str | None,
    ) -> str:
        """Make a snapshot: the first parent's files, and `entries` in the place of theirs.

        It will have these state files and no others; MovedError if the branch is not at `old`.
        """
        run = self.repository.run
        base = parents[0] if parents else "--empty"
        if base != self._in_index:
            run("read-tree", base, environ=self._index)
        self._in_index = None
        lines = b"".join(
            os.fsencode(f"{entry.mode} {entry.oid}\t{entry.path}\0") for entry in entries
        )
        run("update-index", "-z", "--add", "--index-info", stdin=lines, environ=self._index)
        # That every blob is there need not be looked up: they came from this repository.
        tree = run("write-tree", "--missing-ok", environ=self._index).decode().strip()
        commit = self.repository.commit(tree, parents, message)
        self.move(commit, old=old, why=message.partition("\n")[0])
        self._in_index = commit
        self._states = (commit, dict(states))
        return commit

    def move(self, commit: str, *, old: str | None, why: str) -> None:
        """Point the branch at a commit; MovedError if it does not point to `old`."""
        self.check_free()
        try:
            self.repository.move(self._ref, commit, old=old, why=why)
        except GitError as error:
            if self.repository.tip(self._ref) != old or ".lock" in error.said:
                raise MovedError(
                    f"another process moves or locks the branch {self.name}: {error.line}; if none "
                    f"runs, delete the file {self._ref}.lock in {self.repository.git_dir}"
                ) from error
            raise

    def joined(self, theirs: str, ours: str) -> tuple[list[TreeEntry], dict[str, bytes]]:
        """Merge two snapshots by meaning.

        Returns:
            What has to be put upon theirs, state files and page apart; and all state files by path.
        """
        added: list[TreeEntry] = []
        both: list[tuple[TreeEntry, TreeEntry]] = []
        for one, other in self.repository.differing(theirs, ours):
            if one is None and other is not None:
                added.append(other)
            elif (
                one is not None
                and other is not None
                and one.path.startswith(("answers/", "evallogs/"))
            ):
                both.append((one, other))
        contents = self.repository.read([entry.oid for pair in both for entry in pair])
        for (one, other), mine, yours in zip(both, contents[::2], contents[1::2], strict=True):
            if merge(one.path, mine, yours) != mine:
                added.append(other)
        states = merge_files(self.states(theirs), self.states(ours))
        made = {*states, README}
        return [entry for entry in added if entry.path not in made], states


@contextmanager
def open_branch(
    options: SnapshotOptions, root: Path, host: Host, *, name: str, make: bool = False
) -> Iterator[ProgressBranch]:
    """A progress branch in the repository that was asked for, or the one around, or one of our own.

    With `make` one of our own may be made in `root`, the progress directory.
    """
    with temporary_folder("snapshots") as folder:
        if options.repo is not None:
            there = options.repo.is_dir()
            repository = find_repository(options.repo, host=host.name) if there else None
            if repository is None:
                raise UsageError(
                    f"--snapshot-repo {options.repo} is no Git repository",
                    f"make one with `git init --bare {options.repo}`, or leave the option out",
                )
        else:
            own = root / OWN_REPOSITORY
            place = own if make or own.exists() else folder / OWN_REPOSITORY
            around = find_repository(Path.cwd(), host=host.name)
            repository = around or make_bare(place, host=host.name)
        remote = choose_remote(repository, options.remote)
        yield ProgressBranch(repository, name, remote=remote, folder=folder)


_REFS = re.compile(r"refs/(?:heads|remotes/[^/]+|evalset/fetched)/(.+)")


def branches_of(layout: Layout, host: Host) -> list[str]:
    """The branches that are known here and have progress of a model and eval set.

    No remote is asked, and nothing is made. In a repository that cannot be used there are none.
    """
    own = layout.root / OWN_REPOSITORY
    try:
        repository = find_repository(Path.cwd(), host=host.name)
        if repository is None and own.is_dir():
            repository = find_repository(own, host=host.name)
        if repository is None:
            return []
        listed = repository.run("for-each-ref", "--format=%(refname)")
        refs = [line for line in listed.decode(errors="replace").splitlines() if _REFS.match(line)]
        start = state_prefix(layout)
        asked = "".join(f"{ref}:{start}{kind}\n" for ref in refs for kind in _KINDS)
        said = repository.run("cat-file", "--batch-check", stdin=asked.encode()).splitlines()
    except EnvironmentFault:
        return []
    there = [not line.endswith(b" missing") for line in said]
    names = [
        _REFS.sub(r"\1", ref)
        for number, ref in enumerate(refs)
        if any(there[number * len(_KINDS) : (number + 1) * len(_KINDS)])
    ]
    return list(dict.fromkeys(names))


_PREFIX = "Evalset-"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of where it was taken.

    Outside a run there is no image, shard (`I/N`) or run (its id). The image is its digest, or else
    its fingerprint, or else its id.
    """

    model: str
    eval_set: str
    host: str
    image: str | None = None
    shard: str | None = None
    run: str | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a progress branch.

    Attributes:
        at: when it was made, UTC, RFC 3339; empty for a time that no calendar has.
        trailers: by name, without our prefix, lower case.
    """

    commit: str
    at: str
    subject: str
    trailers: dict[str, str]


def message(about: About, *, done: int, total: int, added: int) -> str:
    """The message of a commit: what was done, and by whom."""
    more = f" (+{added})" if added else ""
    trailers = {
        "Host": about.host,
        "Image": about.image,
        "Shard": about.shard,
        "Run": about.run,
        "Runner": __version__,
    }
    lines = [f"{_PREFIX}{name}: {value}" for name, value in trailers.items() if value]
    return "\n".join([f"{about.model} {about.eval_set} {done}/{total}{more}", "", *lines, ""])


def parse_trailers(body: str) -> dict[str, str]:
    """What a commit's message says below its subject, by name."""
    pairs = [
        line.removeprefix(_PREFIX).partition(": ")
        for line in body.splitlines()
        if line.startswith(_PREFIX)
    ]
    return {name.lower(): value for name, _, value in pairs}


def history(branch: ProgressBranch, tip: str) -> list[Snapshot]:
    """The snapshots up to `tip`, the newest first."""
    line = ("log", "--format=%H%x00%ct%x00%s%x00%b%x00%x00", tip)
    snapshots = []
    for entry in branch.repository.run(*line).decode(errors="replace").split("\0\0\n")[:-1]:
        commit, seconds, subject, body = entry.split("\0")
        try:
            at = datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
        except (OverflowError, ValueError, OSError):
            at = ""
        trailers = parse_trailers(body)
        snapshots.append(Snapshot(commit=commit, at=at, subject=subject, trailers=trailers))
    return snapshots

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runner import __version__
from runner.branch.git import Entry, GitError, Repository
from runner.errors import EnvironmentFault, UsageError
from runner.records.merge import README, merge

# What Git takes nowhere in a branch's name, and what would need quoting in a shell.
_REFUSED = re.compile(r"[^\w./+-]|\.\.+|/{2,}|@\{", re.ASCII)


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


class Index:
    """A private index: the user's own is never touched.

    Attributes:
        holds: the commit whose tree it was read from or written for; None for an empty one.
    """

    def __init__(self, repository: Repository, path: Path) -> None:
        self._repository = repository
        self._environ = {"GIT_INDEX_FILE": str(path)}
        self.holds: str | None = None

    def read(self, commit: str | None) -> None:
        """Take over a commit's tree, unless it is there already."""
        if commit == self.holds:
            return
        source = ("--empty",) if commit is None else (commit,)
        self._repository.run("read-tree", *source, environ=self._environ)
        self.holds = commit

    def write(self, entries: Iterable[Entry]) -> str:
        """Put files in, and give the tree."""
        lines = b"".join(
            os.fsencode(f"{entry.mode} {entry.oid}\t{entry.path}\0") for entry in entries
        )
        self.holds = None
        run = self._repository.run
        run("update-index", "-z", "--add", "--index-info", stdin=lines, environ=self._environ)
        # That every blob is there need not be looked up: they came from this repository.
        tree = run("write-tree", "--missing-ok", environ=self._environ)
        return tree.decode().strip()


_PREFIX = "Evalset-"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of where it was taken.

    Attributes:
        model: as given.
        eval_set: as given.
        host: name of the host.
        image: digest of the image, or its fingerprint, or its id; None outside a run.
        shard: `I/N`; None for all.
        run: id of the run; None outside one.
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
        commit: its object id.
        at: when it was made, UTC, RFC 3339.
        subject: what was done.
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
    """What a commit's message says beside its subject."""
    pairs = [
        line.removeprefix(_PREFIX).partition(": ")
        for line in body.splitlines()
        if line.startswith(_PREFIX)
    ]
    return {name.lower(): value for name, _, value in pairs}


# Modes of plain files.
PLAIN = ("100644", "100755")

TOP = ("README.md", "evallogs", "oaievalset")

# Makes the branch's page from its state files.
Page = Callable[[Mapping[str, bytes]], bytes]


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """Two snapshots, merged.

    Attributes:
        logs: what has to be put upon theirs.
        states: all state files, by path.
        theirs: paths of the files that theirs has and ours does not.
    """

    logs: list[Entry]
    states: dict[str, bytes]
    theirs: list[str]


class MovedError(EnvironmentFault):
    """Another process has moved the branch in this repository, or keeps it locked."""


class ProgressBranch:
    """A branch whose commits are snapshots; nothing is ever taken away from it.

    Attributes:
        name: without `refs/heads/`.
        repository: that it is in.
    """

    def __init__(self, repository: Repository, name: str, *, page: Page, index: Path) -> None:
        self.repository = repository
        self.name = name
        self._ref = f"refs/heads/{name}"
        self._page = page
        self._index = Index(repository, index)
        self._states: tuple[str | None, dict[str, bytes]] = (None, {})
        taken = repository.ask("check-ref-format", "--branch", name)
        if taken != name or name.startswith("refs/"):
            raise UsageError(f"Git takes no branch called {name!r}; choose another name")

    def check_free(self) -> None:
        """Refuse to write where a work tree has the branch, or another branch is in its way."""
        folder = self.repository.checked_out(self._ref)
        if folder is not None:
            raise UsageError(
                f"the branch {self.name} is checked out in {folder}; check out another one "
                "there, or choose another --snapshot-branch"
            )

    def check_name(self) -> None:
        """Refuse a name that Git cannot have beside those of other branches."""
        below = ("for-each-ref", "--count=1", "--format=%(refname:short)", f"{self._ref}/")
        above = (self.name[:place] for place in _slashes(self.name))
        near = self.repository.ask(*below) or next(
            (name for name in above if self.repository.tip(f"refs/heads/{name}")), None
        )
        if near:
            raise UsageError(
                f"there cannot be a branch {self.name} beside {near}; choose another "
                "--snapshot-branch"
            )

    def tip(self) -> str | None:
        """The newest snapshot in this repository; None if there is none.

        Raises:
            UsageError: the branch is there, and holds something else.
        """
        tip = self.repository.tip(self._ref)
        if tip is not None:
            self.check(tip)
        return tip

    def check(self, commit: str) -> None:
        """Refuse a commit that is no snapshot."""
        names = self.repository.run("ls-tree", "--name-only", "-z", "--full-tree", commit)
        top = {name.decode(errors="replace") for name in names.split(b"\0")[:-1]}
        if "oaievalset" not in top or not top <= set(TOP):
            raise UsageError(
                f"the branch {self.name} is there and is no progress branch; choose another name"
            )

    def states(self, commit: str | None) -> dict[str, bytes]:
        """The state files of a snapshot: what is below `oaievalset/`, by path."""
        if commit is None:
            return {}
        if self._states[0] != commit:
            entries = [
                entry
                for entry in self.repository.files(commit, "oaievalset/")
                if entry.path.isprintable() and entry.mode in PLAIN
            ]
            contents = self.repository.read([entry.oid for entry in entries])
            paths = [entry.path for entry in entries]
            self._states = (commit, dict(zip(paths, contents, strict=True)))
        return dict(self._states[1])

    def put(
        self,
        parents: Sequence[str],
        entries: Iterable[Entry],
        states: Mapping[str, bytes],
        message: str,
        *,
        old: str | None,
    ) -> str:
        """Make a snapshot: the first parent's files, and these in the place of theirs.

        Args:
            parents: commits that it follows.
            entries: files that are new or changed, the page apart.
            states: all state files that it will have.
            message: of the commit.
            old: the branch's tip now.

        Raises:
            MovedError: the tip is another one.
        """
        self._index.read(parents[0] if parents else None)
        tree = self._index.write(entries)
        commit = self.repository.commit(tree, parents, message)
        self.move(commit, old=old, why=message.partition("\n")[0])
        self._index.holds = commit
        self._states = (commit, dict(states))
        return commit

    def page(self, states: Mapping[str, bytes]) -> bytes:
        """The branch's page for some state files."""
        return self._page(states)

    def move(self, commit: str, *, old: str | None, why: str) -> None:
        """Point the branch at a commit.

        Raises:
            MovedError: it does not point to `old`.
        """
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

    def joined(self, theirs: str, ours: str) -> "Joined":
        """Merge two snapshots by meaning."""
        added: list[Entry] = []
        kept: list[Entry] = []
        both: list[tuple[Entry, Entry]] = []
        for one, other in self.repository.differing(theirs, ours):
            if one is not None and other is not None:
                both.append((one, other))
            elif one is not None:
                kept.append(one)
            elif other is not None:
                added.append(other)
        states = self.states(ours)
        merged = self.states(theirs)
        for path, content in states.items():
            merged[path] = merge(path, merged[path], content) if path in merged else content
        logs = [(one, other) for one, other in both if one.path.startswith("evallogs/")]
        contents = self.repository.read([entry.oid for pair in logs for entry in pair])
        for (one, other), mine, yours in zip(logs, contents[::2], contents[1::2], strict=True):
            if merge(one.path, mine, yours) != mine:
                added.append(other)
        made = {*merged, README}
        return Joined(
            logs=[entry for entry in added if entry.path not in made],
            states=merged,
            theirs=[entry.path for entry in kept],
        )


def _slashes(name: str) -> list[int]:
    return [place for place, character in enumerate(name) if character == "/"]


_FORMAT = "%H%x00%ct%x00%s%x00%b%x00%x00"


def history(branch: ProgressBranch, tip: str) -> list[Snapshot]:
    """The snapshots up to `tip`, the newest first."""
    said = branch.repository.run("log", f"--format={_FORMAT}", tip).decode(errors="replace")
    snapshots = []
    for entry in said.split("\0\0\n")[:-1]:
        commit, at, subject, body = entry.split("\0")
        trailers = parse_trailers(body)
        moment = _moment(int(at))
        snapshots.append(Snapshot(commit=commit, at=moment, subject=subject, trailers=trailers))
    return snapshots


def _moment(seconds: int) -> str:
    """A time as RFC 3339 has it; empty for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return ""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.share.index import Index
from runner.share.merge import README, merge
from runner.share.process import GitError
from runner.share.repository import Entry, Repository

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

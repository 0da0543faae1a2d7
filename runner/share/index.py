import os
from collections.abc import Iterable
from pathlib import Path

from runner.share.repository import Entry, Repository


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

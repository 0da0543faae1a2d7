import gzip
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from runner.files import named
from runner.records.snapshot import TOO_LARGE, ExcludedFile
from runner.secrets import Scanner

COMPRESSED = ".gz"


class SnapshotFilter(msgspec.Struct, kw_only=True):
    """Says what of a progress directory goes to the branch, and what stays on the host.

    Attributes:
        root: the progress directory.
        max_file: bytes up to which a file is committed.
        folder: for temporary files.
        excluded: what stays, by path, in the order in which it was met.
    """

    root: Path
    scanner: Scanner
    max_file: int
    host: str
    folder: Path
    warn: Callable[[str], None]
    excluded: dict[str, ExcludedFile] = {}
    # Logs that stay, and what the branch says of those with secrets.
    _logs: set[str] = set()
    _known_paths: set[str] = set()
    _known_sums: set[str] = set()
    _known_sizes: set[int] = set()
    # By name: what was searched, and what of it holds no secret.
    _clean: dict[str, tuple[bytes, bytes]] = {}
    _searched: dict[str, frozenset[str]] = {}
    _warned: set[str] = set()

    def exclude_again(self, known: Iterable[ExcludedFile]) -> None:
        """Leave out, without a word, what held a secret whose variable may not be set any more."""
        for one in known:
            if one.reason != TOO_LARGE:
                self._known_paths.add(one.path)
                self._known_sums.add(one.sha256)
                self._known_sizes.add(one.size)

    def excludes(self, log: str) -> bool:
        """Whether it is known that a log stays on the host."""
        return log in self._logs

    def files_for(self, logs: Iterable[str]) -> dict[str, Path]:
        """Files to store for logs, by path in the tree; one that ends in `.gz` is compressed."""
        found = {}
        for name in logs:
            stored = self._file_for(name)
            if stored is not None:
                found[name if stored == self.root / name else name + COMPRESSED] = stored
        return found

    def lines_of(self, name: str, content: bytes) -> bytes:
        """The whole lines of a state file that hold no secret; each is searched once."""
        seen, clean = self._clean.get(name, (b"", b""))
        if not content.startswith(seen):
            seen, clean = b"", b""
        end = content.rfind(b"\n") + 1
        kept = []
        first = seen.count(b"\n") + 1
        for number, line in enumerate(content[len(seen) : end].splitlines(keepends=True), first):
            if self.may_have(name, number, line):
                kept.append(line)
        clean += b"".join(kept)
        self._clean[name] = (content[:end], clean)
        return clean

    def may_have(self, name: str, number: int, line: bytes) -> bool:
        """Whether the branch may have a line of a file; one with a secret is named."""
        if self._known_sums and hashlib.sha256(line).hexdigest() in self._known_sums:
            return False
        finding = self.scanner.find(line)
        if finding is not None:
            reason = f"it holds what looks like {finding.what}"
            self._exclude_content(f"{name}, line {number}", line, reason)
        return finding is None

    def exclude_large(self, name: str, content: bytes) -> None:
        """Leave out what is too large, compressed too."""
        self._exclude_content(name, content, TOO_LARGE)

    def excludes_whole(self, name: str, content: bytes) -> bool:
        """Whether a state file that is stored whole or not at all holds a secret."""
        digest = hashlib.sha256(content).hexdigest()
        if digest in self._known_sums or self._has(digest):
            return True
        lines = content.splitlines(keepends=True) if self._known_sums else []
        if any(hashlib.sha256(line).hexdigest() in self._known_sums for line in lines):
            self._exclude_content(name, content, "it holds a line that is left out")
            return True
        finding = self.scanner.find(content)
        if finding is None:
            return False
        reason = f"line {finding.line} holds what looks like {finding.what}"
        self._exclude_content(name, content, reason)
        return True

    def public(self, what: str, content: str, *, instead: str) -> str:
        """The text that people call `what`, or `instead` if it holds a secret."""
        lines = content.split("\n")
        searched = self._searched.get(what, frozenset())
        new = "\n".join(line for line in lines if line not in searched)
        finding = self.scanner.find(new.encode(errors="surrogateescape"))
        if finding is None:
            self._searched[what] = frozenset(lines)  # most are in the next one, too
            return content
        if what not in self._warned:
            self._warned.add(what)
            self.warn(f"{what} is left out of the snapshots: it holds {finding.what}")
        return instead

    def _file_for(self, name: str) -> Path | None:
        """The file to store for a log: itself, or it compressed; None if it stays on the host."""
        path = self.root / name
        if self._is_known(name, path):
            self._logs.add(name)
            return None
        if finding := self.scanner.find(os.fsencode(name)):
            reason = f"its name holds what looks like {finding.what}"
            self._exclude_log(name, reason, shown=_hidden(name))
            return None
        if finding := self.scanner.find_in(path):
            self._exclude_log(name, f"line {finding.line} holds what looks like {finding.what}")
            return None
        with named(path, "read"):
            if path.stat().st_size <= self.max_file:
                return path
            packed = self.folder / f"packed-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
            # Neither name nor time in it: the same content gives the same blob on every host.
            with (
                path.open("rb") as source,
                packed.open("wb") as target,
                gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as compressed,
            ):
                shutil.copyfileobj(source, compressed, 2**20)
        if packed.stat().st_size <= self.max_file:
            return packed
        packed.unlink()
        self._exclude_log(name, TOO_LARGE)
        return None

    def _is_known(self, name: str, path: Path) -> bool:
        if name in self._known_paths or _hidden(name) in self._known_paths:
            return True
        with named(path, "read"):
            return path.stat().st_size in self._known_sizes and _digest(path) in self._known_sums

    def _exclude_log(self, name: str, reason: str, *, shown: str | None = None) -> None:
        path = self.root / name
        with named(path, "read"):
            digest, size = _digest(path), path.stat().st_size
        self._logs.add(name)
        self._exclude(shown or name, reason, size=size, sha256=digest)

    def _exclude_content(self, name: str, content: bytes, reason: str) -> None:
        digest = hashlib.sha256(content).hexdigest()
        if not self._has(digest):
            self._exclude(name, reason, size=len(content), sha256=digest)

    def _has(self, digest: str) -> bool:
        return any(one.sha256 == digest for one in self.excluded.values())

    def _exclude(self, path: str, reason: str, *, size: int, sha256: str) -> None:
        self.excluded[path] = ExcludedFile(
            path=path, host=self.host, reason=reason, size=size, sha256=sha256
        )
        self.warn(f"{path} is left out of the snapshots: {reason}")


def _hidden(name: str) -> str:
    """What a log is called whose name nobody else should read; the same on every host."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"evallogs/ (a name with the SHA-256 {digest[:16]})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

import gzip
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runner.branch.git import Entry, Repository
from runner.files import named
from runner.records.merge import TOO_LARGE, LeftOut
from runner.secrets import Scanner

COMPRESSED = ".gz"


class Blobs:
    """Turns files of the progress directory into blobs, and says which stay on the host.

    Attributes:
        left_out: those that stay, in the order in which they were met.
    """

    def __init__(
        self,
        repository: Repository,
        root: Path,
        *,
        scanner: Scanner,
        max_file: int,
        host: str,
        folder: Path,
        warn: Callable[[str], None],
    ) -> None:
        self._repository = repository
        self._root = root
        self._scanner = scanner
        self._max_file = max_file
        self._host = host
        self._folder = folder
        self._warn = warn
        # By name: what was searched, and what of it holds no secret.
        self._clean: dict[str, tuple[bytes, bytes]] = {}
        self.left_out: dict[str, LeftOut] = {}
        # Names of logs that stay, and what the branch says of those with secrets.
        self._staying: set[str] = set()
        self._bound_paths: set[str] = set()
        self._bound_sums: set[str] = set()
        self._bound_sizes: set[int] = set()
        self._warned: set[str] = set()
        self._searched: dict[str, frozenset[str]] = {}

    def bind(self, known: Iterable[LeftOut]) -> None:
        """Leave out, without a word, what held a secret when an earlier snapshot was taken.

        What that was is not known any more: its variable may not be set now.
        """
        for one in known:
            if one.reason != TOO_LARGE:
                self._bound_paths.add(one.path)
                self._bound_sums.add(one.sha256)
                self._bound_sizes.add(one.size)

    def stays(self, log: str) -> bool:
        """Whether it is known that a log stays on the host."""
        return log in self._staying

    def fitting(self, logs: Iterable[str]) -> dict[str, Path]:
        """Files to store for logs that hold no secret and are not too large.

        Args:
            logs: relative to the progress directory.

        Returns:
            By path in the tree; one that ends in `.gz` is the log compressed.
        """
        found = {}
        for name in logs:
            stored = self._fit(name)
            if stored is not None:
                found[name if stored == self._root / name else name + COMPRESSED] = stored
        return found

    def store(self, files: Mapping[str, Path], contents: Mapping[str, bytes]) -> list[Entry]:
        """Store files, and contents that were made here.

        Args:
            files: by path in the tree.
            contents: by path in the tree.
        """
        paths = dict(files)
        for number, (name, content) in enumerate(contents.items()):
            paths[name] = self._folder / f"made-{number}"
            with named(paths[name], "write"):
                paths[name].write_bytes(content)
        oids = self._repository.write(paths.values())
        for path in paths.values():
            if path.parent == self._folder:
                path.unlink()
        return [Entry(path=name, oid=oid) for name, oid in zip(paths, oids, strict=True)]

    def without_secrets(self, name: str, content: bytes) -> bytes:
        """The whole lines of a state file that hold no secret; each is searched once."""
        seen, clean = self._clean.get(name, (b"", b""))
        if not content.startswith(seen):
            seen, clean = b"", b""
        end = content.rfind(b"\n") + 1
        number = seen.count(b"\n")
        bound = self._bound_sums
        kept = []
        for line in content[len(seen) : end].splitlines(keepends=True):
            number += 1
            if bound and hashlib.sha256(line).hexdigest() in bound:
                continue
            finding = self._scanner.find(line)
            if finding is None:
                kept.append(line)
            else:
                self._leave_line(name, number, line, finding.what)
        clean += b"".join(kept)
        self._clean[name] = (content[:end], clean)
        return clean

    def withholds(self, name: str, content: bytes) -> bool:
        """Whether a state file that is stored whole or not at all holds a secret."""
        bound = self._bound_sums
        digest = hashlib.sha256(content).hexdigest()
        if digest in bound or any(one.sha256 == digest for one in self.left_out.values()):
            return True
        lines = content.splitlines(keepends=True) if bound else []
        if any(hashlib.sha256(line).hexdigest() in bound for line in lines):
            reason = "it holds a line that is left out"
        elif finding := self._scanner.find(content):
            reason = f"line {finding.line} holds what looks like {finding.what}"
        else:
            return False
        self._keep(
            LeftOut(path=name, host=self._host, reason=reason, size=len(content), sha256=digest)
        )
        return True

    def public(self, what: str, content: str, *, instead: str) -> str:
        """A text that was made of what is stored, or another one if it holds a secret.

        Args:
            what: it is, for people.
            content: the text.
            instead: the other one.
        """
        lines = content.split("\n")
        searched = self._searched.get(what, frozenset())
        new = "\n".join(line for line in lines if line not in searched)
        finding = self._scanner.find(new.encode(errors="surrogateescape"))
        if finding is None:
            self._searched[what] = frozenset(lines)  # most are in the next one, too
            return content
        if what not in self._warned:
            self._warned.add(what)
            self._warn(f"{what} is left out of the snapshots: it holds {finding.what}")
        return instead

    def _is_bound(self, name: str, path: Path) -> bool:
        if name in self._bound_paths or _hidden(name) in self._bound_paths:
            return True
        with named(path, "read"):
            return path.stat().st_size in self._bound_sizes and _digest(path) in self._bound_sums

    def _fit(self, name: str) -> Path | None:
        """The file to store for a log: itself, or it compressed; None if it stays on the host."""
        path = self._root / name
        if self._is_bound(name, path):
            self._staying.add(name)
            return None
        finding = self._scanner.find(os.fsencode(name))
        if finding is not None:
            self._leave(name, f"its name holds what looks like {finding.what}", hidden=True)
            return None
        finding = self._scanner.find_in(path)
        if finding is not None:
            self._leave(name, f"line {finding.line} holds what looks like {finding.what}")
            return None
        with named(path, "read"):
            if path.stat().st_size <= self._max_file:
                return path
            packed = self._folder / f"packed-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
            # Neither name nor time in it: the same content gives the same blob on every host.
            with (
                path.open("rb") as source,
                packed.open("wb") as target,
                gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as compressed,
            ):
                shutil.copyfileobj(source, compressed, 2**20)
        if packed.stat().st_size <= self._max_file:
            return packed
        packed.unlink()
        self._leave(name, TOO_LARGE)
        return None

    def _leave(self, name: str, reason: str, *, hidden: bool = False) -> None:
        path = self._root / name
        with named(path, "read"):
            digest, size = _digest(path), path.stat().st_size
        self._staying.add(name)
        said = _hidden(name) if hidden else name
        self._keep(LeftOut(path=said, host=self._host, reason=reason, size=size, sha256=digest))

    def _leave_line(self, name: str, number: int, line: bytes, what: str) -> None:
        digest = hashlib.sha256(line).hexdigest()
        if any(one.sha256 == digest for one in self.left_out.values()):
            return
        self._keep(
            LeftOut(
                path=f"{name}, line {number}",
                host=self._host,
                reason=f"it holds what looks like {what}",
                size=len(line),
                sha256=digest,
            )
        )

    def _keep(self, one: LeftOut) -> None:
        self.left_out[one.path] = one
        self._warn(f"{one.path} is left out of the snapshots: {one.reason}")


def _hidden(name: str) -> str:
    """What a log is called whose name nobody else should read; the same on every host."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"evallogs/ (a name with the SHA-256 {digest[:16]})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

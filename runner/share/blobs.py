import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runner.record.files import named
from runner.share.left_out import LeftOut
from runner.share.repository import Entry, Repository
from runner.share.secrets import Scanner

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
        kept = []
        for line in content[len(seen) : end].splitlines(keepends=True):
            number += 1
            finding = self._scanner.find(line)
            if finding is None:
                kept.append(line)
            else:
                self._leave_line(name, number, line, finding.what)
        clean += b"".join(kept)
        self._clean[name] = (content[:end], clean)
        return clean

    def _fit(self, name: str) -> Path | None:
        """The file to store for a log: itself, or it compressed; None if it stays on the host."""
        path = self._root / name
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
        self._leave(name, "larger than --snapshot-max-file, compressed too")
        return None

    def _leave(self, name: str, reason: str) -> None:
        path = self._root / name
        with named(path, "read"), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        self._keep(LeftOut(path=name, host=self._host, reason=reason, size=size, sha256=digest))

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

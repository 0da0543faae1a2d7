"""What hosts get besides images: folders by the hash of their content, each once."""

import gzip
import hashlib
import importlib.util
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from runner.files import named

# The packages of the runner that an agent needs, by the names of their folders.
PACKAGES = (
    "msgspec",
    "docker",
    "requests",
    "urllib3",
    "idna",
    "charset_normalizer",
    "certifi",
)

# Where a runner's own code begins.
_RUNNER = Path(__file__).parents[1]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Folders and files that a host gets as one folder.

    Attributes:
        name: of that folder, made from the hash of all that is in it.
        files: path here by path in the folder, sorted.
    """

    name: str
    files: tuple[tuple[str, Path], ...]

    def write(self, to: IO[bytes]) -> None:
        """Write it as a gzipped tar, which is the same wherever it is made."""
        with (
            gzip.GzipFile(fileobj=to, mode="wb", compresslevel=1, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            for name, path in self.files:
                about = path.lstat()
                entry = tarfile.TarInfo(name)
                if stat.S_ISLNK(about.st_mode):
                    entry.type = tarfile.SYMTYPE
                    entry.linkname = str(path.readlink())
                    tar.addfile(entry)
                elif stat.S_ISREG(about.st_mode):
                    entry.size = about.st_size
                    entry.mode = 0o755 if about.st_mode & 0o111 else 0o644
                    with path.open("rb") as file:
                        tar.addfile(entry, file)
                elif stat.S_ISDIR(about.st_mode):
                    entry.type = tarfile.DIRTYPE
                    entry.mode = 0o755
                    tar.addfile(entry)

    def packed(self) -> IO[bytes]:
        """A temporary file with the tar, at its start."""
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        self.write(file)
        file.seek(0)
        return file


def folder(kind: str, root: Path, *, without: Iterable[str] = ()) -> Content:
    """The content of a folder.

    Args:
        kind: stands in its name.
        without: paths below it that are left out, with all below them.
    """
    with named(root, "read"):
        return _content(kind, _below(root, "", frozenset(without)))


def agent_code() -> Content:
    """The code that an agent runs: the runner's own, and the packages it needs."""
    found: dict[str, Path] = {}
    for name, path in _below(_RUNNER, "", frozenset()):
        if not name.startswith("template"):
            found[f"runner/{name}"] = path
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for name, path in _below(Path(place), "", frozenset()):
                found[f"{package}/{name}"] = path
    kept = {name: path for name, path in found.items() if "__pycache__" not in name.split("/")}
    return _content("agent", sorted(kept.items()))


def _content(kind: str, files: Iterable[tuple[str, Path]]) -> Content:
    digest = hashlib.sha256()
    found = tuple(sorted(files))
    for name, path in found:
        about = path.lstat()
        what = stat.S_IFMT(about.st_mode)
        digest.update(f"{len(name)} {name} {what} {bool(about.st_mode & 0o111)} ".encode())
        if stat.S_ISLNK(about.st_mode):
            digest.update(str(path.readlink()).encode(errors="surrogateescape"))
        elif stat.S_ISREG(about.st_mode):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return Content(name=f"{kind}-{digest.hexdigest()[:32]}", files=found)


def _below(root: Path, above: str, without: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """All files, links and folders below a folder; what cannot be read is no content."""
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{above}{entry.name}"
        if name in without:
            continue
        path = Path(entry.path)
        if entry.is_symlink() or entry.is_file():
            if entry.is_symlink() or os.access(path, os.R_OK):
                yield name, path
        elif entry.is_dir():
            yield name, path
            if os.access(path, os.R_OK | os.X_OK):
                yield from _below(path, f"{name}/", without)

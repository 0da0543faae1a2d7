"""What hosts get besides images: folders by the hash of their content, each once."""

import gzip
import hashlib
import importlib.metadata
import importlib.util
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from runner.engine.engine import Engine
from runner.errors import EnvironmentFault
from runner.files import make_folder, named
from runner.image.image import Image
from runner.image.pip import ground_of, pip, platform_options
from runner.model import key_of

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

# The label with an image's Python, and this one.
PYTHON = "evalset.version.python"
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

# Where a runner's own code begins.
_RUNNER = Path(__file__).parents[1]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Folders and files that a host gets as one folder.

    Attributes:
        name: of that folder, made from the hash of all that is in it.
        place: where it comes from, for people.
        files: path here by path in the folder, sorted.
    """

    name: str
    place: str
    files: tuple[tuple[str, Path], ...]

    def size(self) -> int:
        """Bytes of all files."""
        found = (path.lstat() for _, path in self.files)
        return sum(about.st_size for about in found if stat.S_ISREG(about.st_mode))

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


def folder(kind: str, root: Path, *, without: Iterable[str] = (), digest: str = "") -> Bundle:
    """The content of a folder.

    Args:
        kind: stands in its name.
        without: paths below it that are left out, with all below them.
        digest: stands for its content, where that is known; else all files are read.
    """
    with named(root, "read"):
        files = _below(root, "", frozenset(without))
        if digest:
            name = f"{kind}-{digest[:32]}"
            return Bundle(name=name, place=str(root), files=tuple(sorted(files)))
        return _content(kind, str(root), files)


def agent_code(
    engine: Engine, image: Image, python: str | None, cache: Path, *, tell: Callable[[str], None]
) -> Bundle:
    """The code that an agent runs: the runner's own, and the packages it needs.

    Args:
        engine: that has the image.
        image: that it is to run in.
        python: the version of the Python there; None where that is not known.
        cache: the user's cache folder.
        tell: is told what is being fetched.

    Raises:
        EnvironmentFault: packages for another Python than this one cannot be fetched.
    """
    found: dict[str, Path] = {}
    for name, path in _below(_RUNNER, "", frozenset()):
        if not name.startswith("template"):
            found[f"runner/{name}"] = path
    places = _own() if python in {_HERE, None} else _fetched(engine, image, cache, tell)
    for package, place in places.items():
        for name, path in _below(place, "", frozenset()):
            found[f"{package}/{name}"] = path
    kept = {name: path for name, path in found.items() if "__pycache__" not in name.split("/")}
    return _content("agent", "the agent", sorted(kept.items()))


def _own() -> dict[str, Path]:
    """Where this Python has the packages."""
    specs = {package: importlib.util.find_spec(package) for package in PACKAGES}
    return {
        package: Path(place)
        for package, spec in specs.items()
        for place in (spec.submodule_search_locations or () if spec else ())
    }


def _fetched(
    engine: Engine, image: Image, cache: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """Where the same packages are for an image's Python, fetched once by pip."""
    platform = ground_of(engine.api, image).platform
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    folder = cache / "agents" / f"{platform}-{key_of(wanted)}"
    if not folder.is_dir():
        tell(f"hosts: fetching packages for the image's Python {platform.python} with pip")
        make_folder(folder.parent, option="XDG_CACHE_HOME")
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            line = [*pip(), "install", "--quiet", "--disable-pip-version-check", "--no-input"]
            line += ["--no-deps", "--only-binary=:all:", *platform_options(platform)]
            done = subprocess.run(
                [*line, "--target", f"{fresh}/packages", *wanted],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise EnvironmentFault(
                    f"pip could not fetch what agents need ({platform}): "
                    f"{said.removeprefix('ERROR: ')}",
                    "check the network and pip's settings (`pip config list`)",
                )
            with suppress(OSError):  # another run was faster
                Path(fresh, "packages").rename(folder)
    return {package: folder / package for package in PACKAGES}


def _content(kind: str, place: str, files: Iterable[tuple[str, Path]]) -> Bundle:
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
    return Bundle(name=f"{kind}-{digest.hexdigest()[:32]}", place=place, files=found)


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

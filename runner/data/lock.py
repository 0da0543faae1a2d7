import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.files import UNREADABLE, read_bytes, replace
from runner.records.folders import remove_tree

VERSION = 1

# The variable that moves the cache, as messages name it.
ELSEWHERE = "XDG_CACHE_HOME"

# What libraries leave next to data and no run needs: locks, markers, partial files, notes.
_CLUTTER = re.compile(
    r"(^|/)(\.locks|\.no_exist|xet|modules|CACHEDIR\.TAG|token|stored_tokens|\.agent[^/]*"
    r"|[^/]*\.(lock|incomplete|tmp))(/|$)"
)

# A commit of the hub, as folders are named.
_COMMIT = re.compile("[0-9a-f]{40}")

# The name that the hub's clients give a repository's folder.
_REPOSITORY = re.compile("(datasets|models|spaces)--(.+)")


class DataFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file among an eval's data, or a link to one of them.

    Attributes:
        path: below the folder of the data.
        sha256: of its content, in hex; empty for a link.
        size: in bytes.
        link: where a link leads, relative to its own folder.
    """

    path: str
    sha256: str = ""
    size: int = 0
    link: str = ""


class DataLock(msgspec.Struct, frozen=True, kw_only=True):
    """What the data of one eval are: one line of a lock file.

    Attributes:
        eval: its resolved key.
        key: as `key_of_eval` gives it; another entry with the same name may load other data.
        sha256: of all files, by their paths; empty for an eval that needs no data.
        revisions: commits of the hub, by repository (`datasets/OWNER/NAME`) and branch.
        files: sorted by path.
        image: fingerprint or id of the image that fetched them, for people.
    """

    version: int = VERSION
    eval: str
    key: str
    sha256: str
    revisions: dict[str, dict[str, str]] = {}
    files: tuple[DataFile, ...] = ()
    image: str = ""

    @property
    def paths(self) -> list[str]:
        """Of the files and links."""
        return [file.path for file in self.files]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def commits(self) -> str:
        """The revisions for people, to be put after a line; empty for none."""
        said = [
            f"{name.partition('/')[2]}@{commit[:12]}"
            for name, branches in sorted(self.revisions.items())
            for commit in branches.values()
        ]
        return f"  {', '.join(said)}" if said else ""

    @property
    def line(self) -> bytes:
        """The line of a lock file."""
        return msgspec.json.encode(self) + b"\n"


def lock_of(folder: Path, name: str, key: str, *, image: str = "") -> DataLock:
    """Tidy up what an eval fetched, and describe it.

    Raises:
        UsageError: it left something that is not data, such as a link that leads elsewhere.
    """
    files = look_through(folder, name, tidy=True) if folder.is_dir() else ()
    whole = hashlib.sha256(json.dumps([msgspec.to_builtins(file) for file in files]).encode())
    return DataLock(
        eval=name,
        key=key,
        sha256=whole.hexdigest() if files else "",
        revisions=_revisions(folder, files),
        files=files,
        image=image,
    )


def look_through(folder: Path, name: str, *, tidy: bool = False) -> tuple[DataFile, ...]:
    """Read all files of an eval's data; no link is followed.

    Args:
        folder: of the data; code that nobody has checked has written there.
        name: of the eval, for messages.
        tidy: whether to remove what is not data.

    Raises:
        UsageError: something in there is neither a file, nor a folder, nor a link to one of them.
    """
    found = []
    for above, folders, names in os.walk(folder):
        for each in (*folders, *names):
            path = Path(above, each)
            place = str(path.relative_to(folder))
            about = path.lstat()
            if _CLUTTER.search(place):
                if tidy:
                    _drop(path, is_folder=stat.S_ISDIR(about.st_mode))
                    if each in folders:
                        folders.remove(each)
            elif stat.S_ISLNK(about.st_mode):
                found.append(DataFile(path=place, link=_inner_link(folder, path, name)))
            elif stat.S_ISREG(about.st_mode):
                found.append(DataFile(path=place, sha256=_hash(path), size=about.st_size))
            elif not stat.S_ISDIR(about.st_mode):
                raise UsageError(
                    f"the eval {name} left {place} among its data, which is neither a file nor a "
                    "folder",
                    "skip it with --exclude",
                )
        folders[:] = [each for each in folders if Path(above, each).is_dir()]
    return tuple(sorted(found, key=lambda file: file.path))


def _drop(path: Path, *, is_folder: bool) -> None:
    if is_folder:
        remove_tree(path)
    else:
        path.unlink()


def _inner_link(folder: Path, path: Path, name: str) -> str:
    link = str(path.readlink())
    target = Path(os.path.normpath(path.parent / link))
    if link.startswith("/") or not target.is_relative_to(folder):
        raise UsageError(
            f"the eval {name} left a link among its data that leads elsewhere: "
            f"{path.relative_to(folder)}",
            "skip it with --exclude",
        )
    return link


def _hash(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        return hashlib.file_digest(file, "sha256").hexdigest()


def _revisions(folder: Path, files: Iterable[DataFile]) -> dict[str, dict[str, str]]:
    """The commits of the hub's branches, by repository, as its clients have written them down."""
    revisions: dict[str, dict[str, str]] = {}
    for file in files:
        parts = Path(file.path).parts
        if "refs" not in parts or file.link:
            continue
        repository = _REPOSITORY.fullmatch(parts[parts.index("refs") - 1])
        commit = (folder / file.path).read_bytes()[:40].decode(errors="replace")
        if repository and _COMMIT.fullmatch(commit):
            kind, name = repository[1], repository[2].replace("--", "/")
            branch = "/".join(parts[parts.index("refs") + 1 :])
            revisions.setdefault(f"{kind}/{name}", {})[branch] = commit
    return revisions


def parse_locks(content: bytes) -> dict[tuple[str, str], DataLock]:
    """The lines of a lock file, by eval and hash; lines that cannot be read are ignored."""
    found = {}
    for line in content.splitlines():
        with suppress(*UNREADABLE):
            lock = msgspec.json.decode(line, type=DataLock)
            found[lock.eval, lock.sha256] = lock
    return found


def add_locks(path: Path, locks: Iterable[DataLock]) -> None:
    """Add the lines that a lock file lacks; none of its own is changed."""
    content = read_bytes(path)
    known = parse_locks(content)
    new = {(lock.eval, lock.sha256): lock.line for lock in locks}
    lines = [line for key, line in new.items() if key not in known]
    if lines:
        replace(path, b"".join([content, *lines]), writer="run")

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault

# What msgspec raises for bytes that are not what was expected.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@contextmanager
def named(path: Path, doing: str) -> Iterator[None]:
    """Turn what the operating system refuses about `path` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"cannot {doing} {path}: {_cure(error)}") from error


def _cure(error: OSError) -> str:
    match error.errno:
        case errno.EISDIR:
            return "it is a folder; move it away"
        case errno.ENOTDIR | errno.EEXIST:
            return "a file is where a folder should be; move it away"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "no permission; make it writable for this user, or choose another --progress-dir"
        case errno.ENOSPC | errno.EDQUOT:
            return (
                "the disk is full; free some space and run again, what is recorded stays recorded"
            )
        case _:
            return error.strerror or str(error)


def sync_folder(folder: Path) -> None:
    """Make names that were created or moved in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and what is above it."""
    with named(folder, "create the folder"):
        folder.mkdir(parents=True, exist_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Write `path` so that a reader sees the old content or the new, and survives a power loss."""
    write_whole(path, [content])
    with named(path, "write"):
        sync_folder(path.parent)


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `path` so that a reader sees the old content or the new, never a part."""
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with named(path, "write"):
        try:
            with beside.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Write behind what is in a file, which is made if it is not there."""
    with named(path, "write"), path.open("ab") as file:
        file.write(content)

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from runner.record.files import make_folder, named, sync_folder
from runner.record.layout import Layout

# What one attempt may leave in evallogs; oaieval leaves one, in a subfolder for each `/` in the
# model's name.
MOST_FILES = 1000
DEEPEST_FOLDER = 8

# Mode of a private folder once it has a container.
MADE = 0o1700

# Seconds since a private folder without a container was changed: a younger one may have it on an
# engine that was not asked.
ORPHAN_AGE = 24 * 3600

# Of a file's name, on every file system that Linux commonly has.
MOST_BYTES = 255


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was moved out of an attempt's private folder.

    Attributes:
        logs: paths relative to the progress directory.
        warnings: what was left behind and why, one line each.
    """

    logs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def collect(layout: Layout, attempt: str) -> Collected:
    """Put what an ended container left in its `/tmp/evallogs` into the progress directory.

    The container's code is not trusted: no link is followed, only regular files with one name are
    taken, and nothing that is there already is replaced. The files keep their second name in the
    private folder until that is removed, so that this can be done again after a crash.
    """
    source = layout.private(attempt) / "evallogs"
    logs: list[str] = []
    warnings: list[str] = []
    if source.is_symlink() or not source.is_dir():
        return Collected()
    make_folder(layout.evallogs)
    for path in _regular_files(source, warnings.append):
        if len(logs) == MOST_FILES:
            warnings.append(f"evallogs holds more than {MOST_FILES} files; the rest was left out")
            break
        wanted = layout.evallogs / path.relative_to(source)
        try:
            with named(wanted, "write"):
                target = _put(path, wanted, attempt)
        except _LeftOutError as why:
            warnings.append(f"evallogs: {path.name!a} was left out, for {why}")
        else:
            logs.append(str(target.relative_to(layout.root)))
    return Collected(logs=tuple(sorted(logs)), warnings=tuple(warnings))


class _LeftOutError(Exception):
    """The container chose a name that has no place; that must not keep the run from going on."""


def _put(path: Path, wanted: Path, attempt: str) -> Path:
    """Give `path` its place, and return it."""
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _LeftOutError("a file is where its folder should be") from None
    beside = wanted.with_name(f"{attempt}_{wanted.name}")
    for target in (wanted, beside):
        if os.path.lexists(target) and os.path.samestat(target.lstat(), path.lstat()):
            return target
    if path.stat().st_nlink > 1:
        raise _LeftOutError("it has several names")
    target = beside if os.path.lexists(wanted) else wanted
    if os.path.lexists(target) or len(os.fsencode(target.name)) > MOST_BYTES:
        raise _LeftOutError("files of its name are there already")
    path.chmod(0o644)
    _sync(path)
    try:
        target.hardlink_to(path)
    except PermissionError:  # a file system without hard links
        path.rename(target)
    sync_folder(target.parent)
    return target


def _regular_files(folder: Path, warn: Callable[[str], None], depth: int = 0) -> Iterator[Path]:
    if depth > DEEPEST_FOLDER:
        warn(f"evallogs: folders more than {DEEPEST_FOLDER} deep were left out")
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        warn(f"evallogs: a folder cannot be read ({error.strerror}) and was left out")
        return
    for entry in entries:
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError as error:
            warn(f"evallogs: {entry.name!a} cannot be read ({error.strerror}) and was left out")
            continue
        if not entry.name.isprintable():
            warn(f"evallogs: {entry.name!a} was left out, for its name is not printable")
        elif stat.S_ISDIR(about.st_mode):
            yield from _regular_files(Path(entry.path), warn, depth + 1)
        elif not stat.S_ISREG(about.st_mode):
            warn(f"evallogs: {entry.name!a} was left out, for it is not a plain file")
        else:
            yield Path(entry.path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def private_folder(layout: Layout, attempt: str) -> Iterator[Path]:
    """Create the folder that an attempt's container sees as `/tmp`, closed to other users.

    Until the `with` block ends, which is to create the container, nobody takes it for an orphan;
    then it has the sticky bit, as every `/tmp` has.
    """
    folder = layout.private(attempt)
    with named(folder, "create the folder"):
        descriptor = -1
        while descriptor < 0:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            descriptor = _held(folder)
    try:
        yield folder
        os.fchmod(descriptor, MADE)
    finally:
        os.close(descriptor)


def _held(folder: Path) -> int:
    """Lock a new folder; -1 where somebody was faster and removed it as an orphan."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return -1
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if folder.exists():
        return descriptor
    os.close(descriptor)
    return -1


def remove_unused(root: Path) -> None:
    """Delete the private folders of runs that were killed before they made a container."""
    folder = root / ".attempts"
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # somebody holds it, or it has something in it
            if not path.stat().st_mode & stat.S_ISVTX:
                _remove_if_free(path)
    with suppress(OSError):
        folder.rmdir()


def _remove_if_free(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.rmdir()
    finally:
        os.close(descriptor)


def remove_private(layout: Layout, attempt: str) -> None:
    """Delete an attempt's private folder with all that the container left in it."""
    folder = layout.private(attempt)
    _remove_tree(folder)
    with suppress(OSError):  # other attempts are running
        folder.parent.rmdir()


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with named(folder, "delete the folder"):
            _open_up(folder)
            shutil.rmtree(folder)


def _open_up(folder: Path) -> None:
    """Undo a `chmod` by the container that keeps a user other than root from deleting."""
    folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o700)


def remove_orphans(root: Path, attempts: Collection[str]) -> None:
    """Delete the private folders of attempts that have no container.

    A run was killed before it made one, or somebody removed it: what is there belongs to no
    outcome. What is in a folder is kept for a day, for the container could be on an engine that
    was not asked.

    Args:
        root: the progress directory.
        attempts: ids of those that have a container.
    """
    folder = root / ".attempts"
    for path in folder.iterdir() if folder.is_dir() else ():
        age = time.time() - path.stat().st_mtime
        if path.name not in attempts and age > ORPHAN_AGE:
            _remove_tree(path)
    remove_unused(root)

"""Folders that attempts and commands write to: how they are made, collected from and removed."""

import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

import msgspec

from runner.files import UNFINISHED, make_folder, named, sync_file, sync_folder, take_lock
from runner.model import MOST_BYTES
from runner.records.layout import Layout

# Mode of a private folder once it has a container.
_MADE = 0o1700

# Seconds since a private folder without a container was changed.
_ORPHAN_AGE = 24 * 3600

# Names taken from a folder at once: it may have millions.
_TOGETHER = 4096

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# What one attempt may leave in evallogs; oaieval leaves one, in a subfolder for each `/` in the
# model's name.
MOST_FILES = 1000
DEEPEST_FOLDER = 8

# No more files and folders are looked at, and no more warnings are kept.
MOST_ENTRIES = 20_000
MOST_WARNINGS = 20

# A file that is larger than this and has next to nothing in it would fill the next disk that it is
# copied to.
LARGEST_SPARSE = 2**30
LEAST_FILLED = 100

# Bytes of a file's path below evallogs, because a record has all of them.
LONGEST_PATH = 1024


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, however deep, wide or closed it was made.

    Folders are moved up to the top before they are emptied. So neither the length of a path nor
    the number of open files nor memory grows with what somebody left there. No link is followed.

    Raises:
        OSError: something cannot be deleted.
    """
    with suppress(FileNotFoundError):
        os.chmod(folder, _MADE)  # noqa: PTH101 - as below
        with _opened(folder) as top:
            # Before it looks unused: a cleanup could take the next one of its name for it.
            with suppress(OSError):  # whoever holds it cleans up, too, or is an eval
                take_lock(top, shared=True)
            os.fchmod(top, 0o700)
            while names := _some(top):
                for name in names:
                    _remove(name, top)
            folder.rmdir()


def _remove(name: str, top: int) -> None:
    """Delete what has this name in the top folder; folders in it move to the top."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return
    # Its owner may have closed it, against being listed or against being moved.
    os.chmod(name, 0o700, dir_fd=top)
    with _opened(name, top) as inner:
        while names := _some(inner):
            for each in names:
                if stat.S_ISDIR(os.stat(each, dir_fd=inner, follow_symlinks=False).st_mode):
                    os.chmod(each, 0o700, dir_fd=inner)
                    unused = f".emptied-{os.urandom(16).hex()}"  # nobody can have guessed it
                    os.rename(each, unused, src_dir_fd=inner, dst_dir_fd=top)
                else:
                    os.unlink(each, dir_fd=inner)
    os.rmdir(name, dir_fd=top)


def _some(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _TOGETHER)]


@contextmanager
def _opened(folder: Path | str, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def temporary_folder(
    what: str, *, before_removal: Callable[[Path], None] = lambda _: None
) -> Iterator[Path]:
    """A temporary folder, `evalset-{what}-...`; leftovers of this user's killed processes go.

    Args:
        before_removal: called with each leftover, to end what was started there.
    """
    prefix = f"evalset-{what}-"
    for leftover in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError), _unheld(leftover) as about:  # or it has gone meanwhile
            if about.st_uid == os.geteuid():
                before_removal(leftover)
                shutil.rmtree(leftover, ignore_errors=True)
    with _held(lambda: Path(tempfile.mkdtemp(prefix=prefix))) as (folder, _):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def private_folder(layout: Layout, attempt: str) -> Iterator[Path]:
    """Create the folder that an attempt's container sees as `/tmp`, closed to other users.

    Until the `with` block ends, which is to create the container, nobody takes it for an orphan;
    then it has the sticky bit, as every `/tmp` has.
    """

    def make() -> Path:
        folder = layout.private(attempt)
        with named(folder, "create the folder"):
            while True:
                with suppress(FileExistsError):
                    folder.parent.mkdir(parents=True)
                with suppress(FileNotFoundError):  # the last attempt has just removed the parent
                    folder.mkdir(mode=0o700)
                    return folder

    with _held(make) as (folder, descriptor):
        yield folder
        os.fchmod(descriptor, _MADE)


@contextmanager
def _held(make: Callable[[], Path]) -> Iterator[tuple[Path, int]]:
    """A new folder with a lock on it, which keeps others from cleaning it up."""
    with ExitStack() as stack:
        while True:
            folder = make()
            with suppress(FileNotFoundError):  # somebody was faster, and took it for a leftover
                descriptor = stack.enter_context(_opened(folder))
                with suppress(OSError):  # a file system without locks
                    take_lock(descriptor, shared=True, patience=math.inf)
                folder.stat()
                break
        yield folder, descriptor


@contextmanager
def _unheld(folder: Path) -> Iterator[os.stat_result]:
    """A folder that nobody holds, for as long as the `with` block lasts.

    Raises:
        OSError: somebody does, or it is gone.
    """
    with _opened(folder) as descriptor:
        if not take_lock(descriptor):
            raise BlockingIOError
        yield os.fstat(descriptor)


def remove_unused(root: Path) -> None:
    """Delete the private folders of runs that were killed before they made a container."""
    folder = root / ".attempts"
    paths: list[Path] = []
    with suppress(FileNotFoundError):  # the last attempt has just removed it
        paths += folder.iterdir()
    for path in paths:
        with suppress(OSError), _unheld(path) as about:  # or it has something in it
            # One without a name is not that which has the name by now.
            if about.st_nlink and not about.st_mode & stat.S_ISVTX:
                path.rmdir()
    with suppress(OSError):
        folder.rmdir()


def remove_private(layout: Layout, attempt: str) -> None:
    """Delete an attempt's private folder with all that the container left in it."""
    folder = layout.private(attempt)
    with named(folder, "delete the folder"):
        remove_tree(folder)
    with suppress(OSError):  # other attempts are running
        folder.parent.rmdir()


def remove_orphans(root: Path, attempts: Collection[str]) -> None:
    """Delete the private folders of attempts that have no container.

    A run was killed before it made one, or somebody removed it. What is in a folder is kept for a
    day, because the container could be on an engine that was not asked.

    Args:
        attempts: ids of those that have a container.
    """
    folder = root / ".attempts"
    for path in folder.iterdir() if folder.is_dir() else ():
        age = time.time() - path.stat().st_mtime
        if path.name not in attempts and age > _ORPHAN_AGE:
            with named(path, "delete the folder"):
                remove_tree(path)
    remove_unused(root)


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was moved out of an attempt's private folder.

    Attributes:
        logs: paths relative to the progress directory.
        warnings: what was left behind and why, one line each.
    """

    logs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def collect(
    layout: Layout, attempt: str, *, shown: Callable[[str], str] = lambda name: name
) -> Collected:
    """Put what an ended container left in its `/tmp/evallogs` into the progress directory.

    The container's code is not trusted: no link is followed, only regular files with one name are
    taken, and nothing that is there already is replaced. The files keep their second name in the
    private folder until that is removed, so that this can be done again after a crash.

    Args:
        shown: gives a path below `evallogs` as it may be recorded; the file gets that one.
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
        name = str(path.relative_to(source))
        wanted = layout.evallogs / shown(name)
        if len(os.fsencode(name)) > LONGEST_PATH:
            warnings.append(f"evallogs: {path.name!a} was left out because its path is too long")
            continue
        try:
            with named(wanted, "write"):
                target = _put(path, wanted, attempt)
        except _LeftOutError as why:
            warnings.append(f"evallogs: {path.name!a} was left out: {why}")
        else:
            logs.append(str(target.relative_to(layout.root)))
    if (more := len(warnings) - MOST_WARNINGS) > 0:
        warnings[MOST_WARNINGS:] = [f"evallogs: {more} more were left out"]
    return Collected(logs=tuple(sorted(logs)), warnings=tuple(warnings))


class _LeftOutError(Exception):
    """The container chose a name that has no place; that must not stop the run."""


def listed(private: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """The plain files in an ended container's `/tmp/evallogs`, by the rules of `collect`.

    Returns:
        Their paths below `evallogs` with their sizes, and warnings about what is left out.
    """
    source = private / "evallogs"
    warnings: list[str] = []
    if source.is_symlink() or not source.is_dir():
        return [], []
    found = []
    for path in islice(_regular_files(source, warnings.append), MOST_FILES + 1):
        about = path.lstat()
        if about.st_nlink > 1:
            warnings.append(f"evallogs: {path.name!a} was left out: it has several names")
        else:
            found.append((str(path.relative_to(source)), about.st_size))
    return found, warnings[:MOST_WARNINGS]


def _put(path: Path, wanted: Path, attempt: str) -> Path:
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _LeftOutError("a file is where its folder should be") from None
    longer = wanted.with_name(f"{attempt}_{wanted.name}")
    for target in (wanted, longer):
        if os.path.lexists(target) and os.path.samestat(target.lstat(), path.lstat()):
            return target
    if path.stat().st_nlink > 1:
        raise _LeftOutError("it has several names")
    target = longer if os.path.lexists(wanted) else wanted
    if os.path.lexists(target) or len(os.fsencode(target.name)) > MOST_BYTES:
        raise _LeftOutError("files of its name are there already")
    path.chmod(0o644)
    sync_file(path)
    try:
        target.hardlink_to(path)
    except PermissionError:  # a file system without hard links
        path.rename(target)
    sync_folder(target.parent)
    return target


def _regular_files(source: Path, warn: Callable[[str], None]) -> Iterator[Path]:
    """The plain files below a folder, by name; of millions, only the first are looked at."""
    folders = [source]
    left = MOST_ENTRIES
    while folders:
        folder = folders.pop()
        depth = len(folder.relative_to(source).parts)
        if depth > DEEPEST_FOLDER:
            warn(f"evallogs: folders more than {DEEPEST_FOLDER} deep were left out")
            continue
        try:
            with os.scandir(folder) as entries:
                found = sorted(islice(entries, left + 1), key=lambda entry: entry.name)
        except OSError as error:
            warn(f"evallogs: a folder cannot be read ({error.strerror}) and was left out")
            continue
        if len(found) > left:
            warn(f"evallogs: of more than {MOST_ENTRIES} files and folders the rest was left out")
        inner = []
        for entry in found[:left]:
            kind = _kind(entry, warn)
            if kind == stat.S_IFDIR:
                inner.append(Path(entry.path))
            elif kind == stat.S_IFREG:
                yield Path(entry.path)
        folders += reversed(inner)
        left -= min(left, len(found))


def _kind(entry: "os.DirEntry[str]", warn: Callable[[str], None]) -> int | None:
    """Whether this is a plain file or a folder; None, with a warning, for what has no place."""
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError as error:
        warn(f"evallogs: {entry.name!a} cannot be read ({error.strerror}) and was left out")
        return None
    kind = stat.S_IFMT(about.st_mode)
    if not entry.name.isprintable():
        why = "its name is not printable"
    elif entry.name.startswith(".") and entry.name.endswith(UNFINISHED):
        why = "the runner writes to files with such names"
    elif kind not in {stat.S_IFDIR, stat.S_IFREG}:
        why = "it is not a plain file"
    elif kind == stat.S_IFREG and _is_hollow(about):
        why = f"it says to have {about.st_size} bytes, and hardly any are there"
    else:
        return kind
    warn(f"evallogs: {entry.name!a} was left out: {why}")
    return None


def _is_hollow(about: os.stat_result) -> bool:
    """Whether a file is a hole; no file system packs a log that well."""
    size = about.st_size
    return size > LARGEST_SPARSE and about.st_blocks * 512 * LEAST_FILLED < size

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from runner.files import named
from runner.records.layout import Layout

# Mode of a private folder once it has a container.
_MADE = 0o1700

# Seconds since a private folder without a container was changed.
_ORPHAN_AGE = 24 * 3600

# Names taken from a folder at once: it may have millions.
_TOGETHER = 4096

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, however deep, wide or closed it was made.

    Folders are moved up to the top before they are emptied. So neither the length of a path nor
    the number of open files nor memory grows with what somebody left there. No link is followed.

    Raises:
        OSError: something cannot be deleted.
    """
    with suppress(FileNotFoundError):
        os.chmod(folder, 0o700)  # noqa: PTH101 - as below
        with _opened(folder) as top:
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
                folder.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # the last attempt has just removed the parent
                    folder.mkdir(mode=0o700)
                    return folder

    with _held(make) as (folder, descriptor):
        yield folder
        os.fchmod(descriptor, _MADE)


@contextmanager
def _held(make: Callable[[], Path]) -> Iterator[tuple[Path, int]]:
    """A new folder with a lock on it, which keeps others from cleaning it up."""
    descriptor = None
    while descriptor is None:
        folder = make()
        descriptor = _hold(folder)
    try:
        yield folder, descriptor
    finally:
        os.close(descriptor)


def _hold(folder: Path) -> int | None:
    """Lock a new folder; None where somebody was faster and took it for a leftover."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if folder.exists():
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def _unheld(folder: Path) -> Iterator[os.stat_result]:
    """A folder that nobody holds, for as long as the `with` block lasts.

    Raises:
        OSError: somebody does, or it is gone.
    """
    with _opened(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.fstat(descriptor)


def remove_unused(root: Path) -> None:
    """Delete the private folders of runs that were killed before they made a container."""
    folder = root / ".attempts"
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError), _unheld(path) as about:  # or it has something in it
            if not about.st_mode & stat.S_ISVTX:
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

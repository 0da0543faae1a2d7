import contextlib
import os
import stat
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

# Names taken from a folder at once: it may have millions.
_TOGETHER = 4096


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, however deep, wide or closed it was made.

    Folders are moved up to the top before they are emptied. So neither the length of a path nor
    the number of open files nor memory grows with what somebody left there. No link is followed.

    Raises:
        OSError: something cannot be deleted.
    """
    with contextlib.suppress(FileNotFoundError):
        os.chmod(folder, 0o700)  # noqa: PTH101 - as below
        with _opened(folder) as top:
            numbers = count()
            while names := _some(top):
                for name in names:
                    _remove(name, top, numbers)
        folder.rmdir()


def _remove(name: str, top: int, numbers: Iterator[int]) -> None:
    """Delete what has this name in the top folder; folders in it move there."""
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
                    os.rename(each, _unused(top, numbers), src_dir_fd=inner, dst_dir_fd=top)
                else:
                    os.unlink(each, dir_fd=inner)
    os.rmdir(name, dir_fd=top)


def _unused(top: int, numbers: Iterator[int]) -> str:
    """A name that the top folder does not have."""
    for number in numbers:
        name = f".emptied-{number}"
        try:
            os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return name
    raise AssertionError  # numbers do not end


def _some(folder: int) -> list[str]:
    """Names in a folder, a bounded number of them; none where it is empty."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _TOGETHER)]


@contextlib.contextmanager
def _opened(folder: Path | str, above: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

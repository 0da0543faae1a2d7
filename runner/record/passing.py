import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def passing_folder(what: str) -> Iterator[Path]:
    """A folder for what passes; those that killed processes of this user left are deleted.

    Args:
        what: passes there, for the folder's name, `evalset-{what}-...`.
    """
    prefix = f"evalset-{what}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # a live process holds it, or it has gone meanwhile
            _delete_if_free(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        with suppress(FileNotFoundError):  # another process was faster and took it for one left
            descriptor = _open(folder)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if folder.exists():
                break
            os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _delete_if_free(folder: Path) -> None:
    descriptor = _open(folder)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)

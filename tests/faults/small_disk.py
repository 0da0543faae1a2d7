"""A small file system of its own, which the machine's engine sees, too."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A tmpfs that can be made larger; needs root.

    Attributes:
        folder: where it is mounted.
        size: bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def grow(self, more: int) -> None:
        """Make room for so many bytes more."""
        self.size += more
        _do("mount", "-o", f"remount,size={self.size}", self.folder)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Mount one; whatever happens, it is gone at the end, with all that is on it."""
    folder.mkdir(parents=True)
    _do("mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield SmallDisk(folder, size)
    finally:
        _do("umount", "--lazy", folder)


def _do(*line: str | Path) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}: {done.stderr}"

import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from runner.files import named


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder and all below it take of the disk.

    Attributes:
        size: bytes of disk space; holes in files and second names of one file take none.
        files: number of files and folders; 0 where `du` cannot count them.
    """

    size: int
    files: int = 0


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a file system has left.

    Attributes:
        free: bytes that this user may still write.
        files: how many files may still be made; None where the file system has no such limit.
    """

    place: Path
    free: int
    files: int | None


def used(folder: Path, *, patience: float = 30) -> Used | None:
    """Measure a folder with `du`, which no depth of it stops; one that is gone takes nothing.

    Args:
        patience: seconds for each of the two looks through it; where one takes longer: None.
    """
    try:
        size = _du(folder, "-skx", patience=patience) * 1024
        return Used(size=size, files=_du(folder, "-sx", "--inodes", patience=patience))
    except subprocess.TimeoutExpired:
        return None


def room(place: Path) -> Room:
    """What the file system has left where a path lies, or will lie once it is made."""
    place = place.absolute()
    while not place.exists():
        place = place.parent
    with named(place, "look at the disk of"):
        about = os.statvfs(place)
    return Room(
        place=place,
        free=about.f_bavail * about.f_frsize,
        files=about.f_favail if about.f_files else None,
    )


def _du(folder: Path, *options: str, patience: float) -> int:
    program = shutil.which("du")
    if program is None:
        return 0
    # Files come and go while it looks, which it complains of.
    said = subprocess.run(
        [program, *options, "--", folder],
        capture_output=True,
        check=False,
        timeout=patience,
        env={"LC_ALL": "C"},
    ).stdout
    number = said.split(b"\t")[0]
    return int(number) if number.isdigit() else 0

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def held_open(containers: Collection[str], device: int) -> dict[str, int]:
    """Bytes in files without a name that processes of containers hold open, by container.

    Such a file takes disk space for as long as it is open, and no walk of a folder finds it. Where
    the engine's processes cannot be looked at, as from another user's account, nothing is found.

    Args:
        containers: ids.
        device: number of the file system on which files count.
    """
    found = dict.fromkeys(containers, 0)
    seen: set[int] = set()
    for process, container in _processes(containers):
        for about in _open_files(process):
            nameless = stat.S_ISREG(about.st_mode) and about.st_nlink == 0
            if nameless and about.st_dev == device and about.st_ino not in seen:
                seen.add(about.st_ino)
                found[container] += about.st_blocks * 512
    return found


def _processes(containers: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Processes of these containers on this host: the path of a cgroup has the container's id."""
    for process in PROC.iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                cgroups = (process / "cgroup").read_text()
                for container in containers:
                    if container in cgroups:
                        yield process, container


def _open_files(process: Path) -> Iterator[os.stat_result]:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                yield entry.stat()

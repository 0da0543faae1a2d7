import errno
import fcntl
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from runner.errors import EnvironmentFault, UsageError

# What msgspec raises for bytes that are not what was expected.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# The end of the names that files have until they are whole.
UNFINISHED = ".new"


@contextmanager
def named(path: Path, doing: str, *, option: str = "--progress-dir") -> Iterator[None]:
    """Turn what the operating system refuses about `path` into one line that says what to do.

    Args:
        doing: what was tried, for the message.
        option: which one chooses another path.
    """
    try:
        yield
    except OSError as error:
        raise _fault(f"cannot {doing} {path}", error, option) from error


def _fault(what: str, error: OSError, option: str) -> EnvironmentFault:
    match error.errno:
        case errno.EISDIR:
            return EnvironmentFault(f"{what}: it is a folder", "move it away")
        case errno.ENOTDIR | errno.EEXIST:
            return EnvironmentFault(f"{what}: a file is where a folder should be", "move it away")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return EnvironmentFault(
                f"{what}: no permission",
                f"make it writable for this user, or choose another {option}",
            )
        case errno.ENOSPC | errno.EDQUOT:
            return EnvironmentFault(
                f"{what}: the disk is full",
                "free some space and run again, what is recorded stays recorded",
            )
        case _:
            return EnvironmentFault(f"{what}: {error.strerror or error}")


def read_bytes(path: Path) -> bytes:
    """What a file holds; nothing where there is none."""
    with named(path, "read"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""


T = TypeVar("T")


def read_json(path: Path, kind: type[T]) -> T | None:
    """What a file of JSON holds; None where there is none, or none of this kind."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, *UNREADABLE):
        return None


def read_text(path: Path) -> str:
    """What a file holds that has to be UTF-8.

    Raises:
        UsageError: it is not.
    """
    with named(path, "read"):
        content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: this is not UTF-8", "save it as UTF-8") from None


def sync_folder(folder: Path) -> None:
    """Make names that were created or moved in `folder` survive a power loss."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make what is in a file survive a power loss; no link is followed."""
    _sync(path, os.O_NOFOLLOW)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, *, option: str = "--progress-dir") -> None:
    """Create `folder` and what is above it; `option` is as with `named`."""
    with named(folder, "create the folder", option=option):
        folder.mkdir(parents=True, exist_ok=True)


def replace(path: Path, content: bytes, *, writer: str | None = None) -> None:
    """Write `path` as `write_whole`, and so that it survives a power loss."""
    write_whole(path, [content], writer=writer)
    with named(path, "write"):
        sync_folder(path.parent)


def write_whole(path: Path, pieces: Iterable[bytes], *, writer: str | None = None) -> None:
    """Write `path` so that a reader sees the old content or the new, never a part.

    Args:
        writer: who writes, where a lock lets only one write at a time: the next one then overwrites
            what a killed one left half written. None is this process.
    """
    make_folder(path.parent)
    temporary = f".{path.name}.{writer or os.getpid()}{UNFINISHED}"
    with named(path, "write"), appearing_whole(path, temporary=temporary) as file:
        file.writelines(pieces)


@contextmanager
def appearing_whole(path: Path, *, temporary: str, sync: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` at the end, and is gone if that is not reached.

    Until then it has the name `temporary`, which no two writers may use at the same time.

    Args:
        sync: whether it is whole even after a power loss.
    """
    new = path.with_name(temporary)
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Append to a file, which is made if it is not there; all of it or nothing."""
    with named(path, "write"), path.open("ab", buffering=0) as file:
        write_behind(file.fileno(), content, sync=False)


def write_behind(descriptor: int, content: bytes, *, sync: bool) -> None:
    """Append to a file that was opened for that, all of it or nothing.

    Args:
        sync: whether it survives a power loss when this returns.
    """
    size = os.fstat(descriptor).st_size
    try:
        while content:  # the system may take only a part at a time
            content = content[os.write(descriptor, content) :]
        if sync:
            os.fsync(descriptor)
    except OSError:
        with suppress(OSError):  # a pipe, for example
            os.ftruncate(descriptor, size)
        raise


# Seconds after which a lock that another process has is tried again.
_PAUSE = 0.05


def take_lock(file: int | IO[bytes], *, shared: bool = False, patience: float = 0.0) -> bool:
    """Take the operating system's lock (flock) of an open file or folder, until that is closed.

    A process that ends, in whatever way, leaves no lock behind.

    Args:
        shared: whether others may have it, too, if they share it as well.
        patience: seconds to wait while another process has it.

    Returns:
        Whether it was taken.

    Raises:
        OSError: the file system has no locks, for example.
    """
    until = time.monotonic() + patience
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE)


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder and all below it take of the disk.

    Attributes:
        size: bytes of disk space; holes in files and second names of one file take none.
        files: number of files and folders; 0 where `du` cannot count them.
    """

    size: int
    files: int = 0


class DiskSpace(msgspec.Struct, frozen=True, kw_only=True):
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
        patience: seconds of CPU time for each of the two looks through it, and ten times as many on
            the clock; where one takes longer: None.
    """
    if (kilobytes := _du(folder, "-skx", patience=patience)) is None:
        return None
    if (files := _du(folder, "-sx", "--inodes", patience=patience)) is None:
        return None
    return Used(size=kilobytes * 1024, files=files)


def room(place: Path) -> DiskSpace:
    """What the file system has left where a path lies, or will lie once it is made."""
    place = place.absolute()
    while not place.exists():
        place = place.parent
    with named(place, "look at the disk of"):
        about = os.statvfs(place)
    return DiskSpace(
        place=place,
        free=about.f_bavail * about.f_frsize,
        files=about.f_favail if about.f_files else None,
    )


def _du(folder: Path, *options: str, patience: float) -> int | None:
    import shutil  # noqa: PLC0415 - few commands measure a folder
    import subprocess  # noqa: PLC0415 - as above

    program = shutil.which("du")
    if program is None:
        return 0
    line = [program, *options, "--", str(folder)]
    # Files come and go while it looks, which it complains of.
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"LC_ALL": "C"}
    ) as process:
        for _ in range(10):
            try:
                said, _ = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                # On a busy machine it gets little of the CPU.
                if _cpu_time(process.pid) >= patience:
                    break
            else:
                number = said.split(b"\t")[0]
                return int(number) if number.isdigit() else 0
        process.kill()
    return None


def _cpu_time(process: int) -> float:
    """Seconds; infinite where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

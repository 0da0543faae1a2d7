import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from runner.files import UNFINISHED, make_folder, named, sync_file, sync_folder
from runner.model import MOST_BYTES
from runner.records.layout import Layout

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

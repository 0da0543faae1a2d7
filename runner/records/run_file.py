import glob
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, read_bytes, replace
from runner.plan.pins import MAX_GENERATION, VERSION, RunFile
from runner.records.layout import Layout, keep_dated


def next_generation(layout: Layout, newest: RunFile | None) -> int:
    """The generation after those of the newest file and of all that were given a date."""
    dated = layout.run.parent.glob(f"{glob.escape(layout.run.name)}.*")
    files = (newest, *map(read_run_file, dated))
    return min(max((file.generation for file in files if file), default=0) + 1, MAX_GENERATION)


def write_run_file(layout: Layout, content: RunFile) -> None:
    """Write a run's file as `put_run_file` does."""
    put_run_file(layout.run, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def put_run_file(path: Path, content: bytes) -> None:
    """Replace a run's file; one that this version does not understand gets a date and stays."""
    here = read_bytes(path)
    if run_file_problem(path, here, parse_run_file(here)):
        keep_dated([path])
    replace(path, content, writer="run")


def read_run_file(path: Path) -> RunFile | None:
    """Read a run's file; None when there is none that this version understands."""
    return parse_run_file(read_bytes(path))


def run_file_problem(path: Path, content: bytes | None, file: RunFile | None) -> str:
    """Why `file`, parsed from `content`, is None or not all of it, on one line; else empty.

    None stands for the content of a file that is not there.
    """
    kept = "the next run renames it, with a date, and writes its own"
    if (file.version if file else version_of(content or b"")) > VERSION:
        return f"{path} was written by a newer evalset; {kept}"
    if file or content is None:
        return ""
    return f"{path} cannot be read, so finished evals are not compared with this run; {kept}"


def parse_run_file(content: bytes) -> RunFile | None:
    """Read what a run's file holds; None where this version does not understand it."""
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=RunFile)
    except UNREADABLE:
        return None


class _Versioned(msgspec.Struct):
    version: int = 0


def version_of(content: bytes) -> int:
    """The version that a run's file says it is of; 0 where it says none."""
    try:
        return msgspec.json.decode(content, type=_Versioned).version
    except UNREADABLE:
        return 0

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from runner.record import attempts, progress
from runner.record.attempts import AttemptsFile
from runner.record.files import named, sync_folder
from runner.record.layout import Layout
from runner.record.progress import ProgressFile


def is_safe(name: str) -> bool:
    """Whether a path from elsewhere stays among the logs, and can be shown."""
    path = PurePosixPath(name)
    return (
        name.startswith("evallogs/")
        and str(path) == name
        and ".." not in path.parts
        and name.isprintable()
    )


def sync(folders: Iterable[Path]) -> None:
    """Make the names of logs that were placed survive a power loss."""
    for folder in folders:
        with named(folder, "write"):
            sync_folder(folder)


def add_lines(layout: Layout, *, progress_lines: bytes, attempts_lines: bytes) -> int:
    """Append what the records of another host have more than ours, the attempts first.

    Lines that cannot be read stay where they are; fields that are not known here are kept.

    Returns:
        How many finished commands that added.
    """
    here = {record.attempt for record in attempts.read(layout.attempts).records}
    new = [
        line.decode()
        for line in attempts_lines.splitlines()
        if (found := attempts.parse(line, "").records) and found[0].attempt not in here
    ]
    if new:
        with AttemptsFile(layout.attempts) as file:
            file.add(*new)
    theirs = progress.parse(progress_lines, "")
    ours = progress.read(layout.progress)
    known = {*ours.commands, *ours.lines}
    finished = [
        *(json.dumps(command) for command in theirs.commands if command not in known),
        *(line for line in theirs.lines if line not in known),
    ]
    if finished:
        with ProgressFile(layout.progress) as file:
            file.add(*finished)
    return len(finished)

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, groupby
from pathlib import Path, PurePosixPath
from typing import TypeVar

from runner.branch.filter import COMPRESSED
from runner.branch.git import Repository, TreeEntry
from runner.branch.progress_branch import ProgressBranch, state_prefix
from runner.data.lock import add_locks, parse_locks
from runner.files import named, sync_folder, write_whole
from runner.model import Command
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile, lines_beside
from runner.records.run_file import put_run_file
from runner.records.state import RunState, StateReader

K = TypeVar("K")

# Bytes of logs that are in memory at once, and those of one log more.
_TOGETHER = 32 * 2**20

# Bytes that a compressed log may have; more is meant to fill the disk.
LARGEST = 8 * 2**30


class UnpackError(Exception):
    """A compressed log is none, or has more in it than any log has."""


def restore_progress(
    branch: ProgressBranch,
    commit: str,
    layout: Layout,
    *,
    logs: bool = True,
    reader: StateReader | None = None,
    warn: Callable[[str], None],
) -> int:
    """Add to a progress directory what a snapshot has and it has not; nothing there is replaced.

    Logs come first, then attempts, then the progress file: what it calls finished has its logs.
    The progress directory's lock must be held; `warn` takes lines about what stays on the branch.

    Args:
        reader: that may have read some of it before.

    Returns:
        How many finished commands that added.
    """
    reader = reader or StateReader()
    start = state_prefix(layout)
    states = branch.states(commit)
    theirs = reader.of_branch(start.removesuffix("."), states, f"branch {branch.name}")
    for message in theirs.damaged:
        warn(message)
    if logs:
        _restore_logs(branch.repository, commit, layout, set(theirs.logs), warn)
    here = RunState.from_directory(layout, reader)
    added = add_lines(layout, theirs, states.get(f"{start}attempts.jsonl", b""), here=here)
    add_locks(layout.data, parse_locks(states.get(f"{start}data.jsonl", b"")).values())
    if theirs.run is not None and (here.run is None or theirs.run.age > here.run.age):
        put_run_file(layout.run, states[f"{start}run.json"])
    return added


def add_lines(layout: Layout, theirs: RunState, attempts: bytes, *, here: RunState) -> int:
    """Append what the records of another host have and those here lack, the attempts first.

    Args:
        attempts: their lines. Those that cannot be read stay where they are; fields that are not
            known here are kept.

    Returns:
        How many finished commands that added.
    """
    known = {record.id for record in here.attempts}
    if known.issuperset(record.id for record in theirs.attempts):
        attempts = b""
    if new := lines_beside(attempts, known):
        with AttemptsFile(layout.attempts) as file:
            file.add(*new)
    ended = {*here.finished.commands, *here.finished.lines}
    finished = [
        *(json.dumps(command) for command in theirs.finished.commands if command not in ended),
        *(line for line in theirs.finished.lines if line not in ended),
    ]
    if finished:
        with ProgressFile(layout.progress) as file:
            file.add(*finished)
    return len(finished)


def _restore_logs(
    repository: Repository,
    commit: str,
    layout: Layout,
    recorded: set[str],
    warn: Callable[[str], None],
) -> None:
    targets: dict[str, TreeEntry] = {}
    for entry in repository.files(commit, "evallogs/"):
        plain = entry.path.removesuffix(COMPRESSED)
        name = plain if plain in recorded else entry.path
        if not is_safe(name) or not entry.is_plain:
            warn(f"{entry.path!r} stays on the branch: it is no plain file with a plain name")
        elif not (layout.root / name).exists():
            targets[name] = entry
    # Two eval sets may have a log in common.
    writer = Command((layout.model, layout.eval_set)).key
    for names in groups(repository, targets):
        contents = repository.read([targets[name].oid for name in names])
        for name, content in zip(names, contents, strict=True):
            is_packed = name != targets[name].path
            pieces = _unpacked(content) if is_packed else iter([content])
            try:
                write_whole(layout.root / name, pieces, writer=writer)
            except UnpackError:
                warn(
                    f"{targets[name].path} stays on the branch: it cannot be unpacked, or only to "
                    f"more than {LARGEST // 2**30} GB"
                )
    sync({(layout.root / name).parent for name in targets})


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


def _unpacked(content: bytes) -> Iterator[bytes]:
    length = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while piece := file.read(2**20):
                length += len(piece)
                if length > LARGEST:
                    raise UnpackError
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise UnpackError from error


def groups(repository: Repository, targets: dict[K, TreeEntry]) -> Iterator[list[K]]:
    """The names in groups that fit into memory."""
    sizes = repository.sizes([entry.oid for entry in targets.values()]) if targets else []
    ends = zip(targets, accumulate(sizes), strict=True)
    for _, group in groupby(ends, lambda pair: pair[1] // _TOGETHER):
        yield [name for name, _ in group]

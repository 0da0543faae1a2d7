import hashlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from runner.branch.filter import SnapshotFilter
from runner.branch.git import Repository, TreeEntry
from runner.branch.restore import groups
from runner.files import named
from runner.gateway.requests import kept_headers
from runner.records.answers import Answer, AnswersFile, AnswersLine, Sent, read_line
from runner.records.layout import Layout
from runner.records.run_lock import is_held
from runner.records.snapshot import (
    LARGEST_LINE,
    MOST_OF_A_SEGMENT,
    DamagedError,
    SegmentName,
    grouped,
    is_eval,
    pack,
)
from runner.report.text import evals

# Bytes of new lines that make a segment at once; fewer wait for more, but not for ever.
LEAST = 64 * 2**10

_ENDING = ".jsonl"


class OnBranch(msgspec.Struct, kw_only=True):
    """The segments of a snapshot.

    Attributes:
        segments: by the name of their answers file, without the ending, as they were written.
        odd: paths of what lies between them and is none.
    """

    segments: dict[str, dict[SegmentName, TreeEntry]] = {}
    odd: list[str] = []


def on_branch(repository: Repository, commit: str | None, layout: Layout) -> OnBranch:
    """List the segments of a model and eval set; None is a branch without a snapshot."""
    if commit is None:
        return OnBranch()
    found: defaultdict[str, dict[SegmentName, TreeEntry]] = defaultdict(dict)
    odd = []
    start = f"{layout.answers.relative_to(layout.root)}/"
    for entry in repository.files(commit, start):
        rest = entry.path.removeprefix(start)
        name = SegmentName.read(rest)
        if name is not None and str(name) == rest and entry.is_plain:
            found[name.eval][name] = entry
        elif rest.count("/") <= 1:  # else it may be of a model with a `/` in its name
            odd.append(entry.path)
    return OnBranch(
        segments={eval_: dict(sorted(segments.items())) for eval_, segments in found.items()},
        odd=odd,
    )


def restore_answers(
    repository: Repository, commit: str, layout: Layout, *, warn: Callable[[str], None]
) -> int:
    """Append to the answers files what a snapshot has and they have not; it is durable then.

    The progress directory's lock must be held, and no gateway may have the files; `warn` takes
    lines about what stays on the branch.

    Returns:
        How many answers that added.
    """
    there = on_branch(repository, commit, layout)
    restoring = _Restoring(repository, layout, odd=there.odd)
    for eval_, segments in there.segments.items():
        restoring.restore(eval_, segments)
    for message in restoring.messages():
        warn(message)
    return restoring.added


class _Restoring:
    """Brings segments into answers files, and remembers what it could not bring.

    Attributes:
        added: how many answers.
    """

    def __init__(self, repository: Repository, layout: Layout, *, odd: list[str]) -> None:
        self._repository = repository
        self._layout = layout
        self._is_in_use = is_held(layout.gateway / "lock")
        self._odd = odd
        self._unreadable = 0
        self._first_unreadable = ""
        self._in_use: list[str] = []
        self.added = 0

    def restore(self, eval_: str, segments: dict[SegmentName, TreeEntry]) -> None:
        """Bring the segments of one answers file."""
        path = self._layout.answers / f"{eval_}{_ENDING}"
        known = _digests_in(path)
        is_in_use = self._is_in_use and path.exists()
        for name, lines in _contents(self._repository, segments, self._odd):
            new = list(self._new(segments[name].path, lines, known))
            if new and is_in_use:
                self._in_use.append(eval_)
                return
            if new:
                with AnswersFile(path) as file:
                    file.add(*(line.decode() for line, _ in new))
                self.added += sum(isinstance(read, Answer) for _, read in new)

    def _new(
        self, source: str, lines: bytes, known: set[bytes]
    ) -> Iterator[tuple[bytes, AnswersLine]]:
        for number, line in enumerate(lines.split(b"\n"), start=1):
            digest = _digest(line)
            if not line.strip() or digest in known:
                continue
            known.add(digest)
            read = read_line(line)
            if read is None or not _is_possible(read):
                self._unreadable += 1
                self._first_unreadable = self._first_unreadable or f"line {number} of {source}"
            else:
                yield line, read

    def messages(self) -> Iterator[str]:
        """What stays on the branch, each kind in one line."""
        if self._odd:
            yield (
                f"files of answers stay on the branch ({len(self._odd)}), such as "
                f"{self._odd[0]!r}: they are damaged, or none of evalset's"
            )
        if self._unreadable:
            yield (
                f"lines of answers stay on the branch ({self._unreadable}), such as "
                f"{self._first_unreadable}: they cannot be read"
            )
        if self._in_use:
            yield (
                f"the answers of {evals(len(self._in_use))} stay on the branch: the gateway of a "
                "killed run still has their files; the next run takes them over"
            )


def _contents(
    repository: Repository, segments: dict[SegmentName, TreeEntry], odd: list[str]
) -> Iterator[tuple[SegmentName, bytes]]:
    """The lines of segments; the paths of those that are damaged are added to `odd`."""
    sizes = repository.sizes([entry.oid for entry in segments.values()])
    fitting = {}
    for (name, entry), size in zip(segments.items(), sizes, strict=True):
        if size <= LARGEST_LINE:
            fitting[name] = entry
        else:
            odd.append(entry.path)
    for names in groups(repository, fitting):
        contents = repository.read([fitting[name].oid for name in names])
        for name, content in zip(names, contents, strict=True):
            try:
                yield name, name.lines(content)
            except DamagedError:
                odd.append(fitting[name].path)


def _is_possible(line: AnswersLine) -> bool:
    """Whether a gateway can have written a line: that of somebody else may be meant to harm it."""
    match line:
        case Sent(reserved=reserved):
            return reserved.tokens >= 0 and (reserved.usd or 0) >= 0
        case Answer(usage=usage, usd=usd, headers=headers):
            used = (usage.input, usage.output, usage.cached) if usage else ()
            return (
                all(tokens >= 0 for tokens in used)
                and (usd or 0) >= 0
                and 200 <= line.status < 600  # noqa: PLR2004 - HTTP's
                and kept_headers(headers) == headers
                and all(text.isascii() and text.isprintable() for text in headers.values())
            )
    return True


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _whole_lines(path: Path, start: int = 0) -> Iterator[bytes]:
    """The lines that a file has now, from there on, without one that is being written."""
    with named(path, "read"), path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - start
        file.seek(start)
        for line in file:
            left -= len(line)
            if left < 0 or not line.endswith(b"\n"):
                return
            yield line


def _digests_in(path: Path) -> set[bytes]:
    return {_digest(line[:-1]) for line in _whole_lines(path)} if path.exists() else set()


class _Followed(msgspec.Struct, kw_only=True):
    """How far an answers file is on the branch.

    Attributes:
        inode: the file's.
        position: bytes up to which its lines are on the branch, or stay here.
        lines: how many lines these are.
        at: when the last segment was made.
    """

    inode: int
    position: int = 0
    lines: int = 0
    at: float = -math.inf


class AnswerSegments:
    """Makes segments of what is new in the answers files of a model and eval set.

    Args:
        every: seconds after which few new lines are a segment, too.
    """

    def __init__(
        self,
        repository: Repository,
        layout: Layout,
        snapshot_filter: SnapshotFilter,
        *,
        every: float,
    ) -> None:
        self._repository = repository
        self._layout = layout
        self._filter = snapshot_filter
        self._every = every
        self._followed: dict[str, _Followed] = {}
        self._next: dict[str, _Followed] = {}

    def forget(self) -> None:
        """What the branch has is not known any more: it will be looked up."""
        self._followed.clear()

    def taken(self) -> None:
        """What `new` gave is on the branch."""
        self._followed |= self._next

    def new(self, tip: str | None, *, everything: bool) -> dict[str, Path]:
        """Files to store, by path in the tree.

        Args:
            tip: the snapshot that they are added to.
            everything: whether few new lines do not wait for more.
        """
        self._next = {}
        files: dict[str, Path] = {}
        there: OnBranch | None = None
        for path in sorted(self._layout.answers.glob(f"*{_ENDING}")):
            eval_ = path.name.removesuffix(_ENDING)
            if not is_eval(eval_) or path.is_symlink() or not path.is_file():
                continue
            with named(path, "read"):
                status = path.stat()
            followed = self._followed.get(eval_)
            known: set[bytes] = set()
            if (
                followed is None
                or followed.inode != status.st_ino
                or followed.position > status.st_size
            ):
                followed = _Followed(inode=status.st_ino)
                there = there or on_branch(self._repository, tip, self._layout)
                known = self._known(there.segments.get(eval_, {}))
            if everything or self._is_due(followed, status.st_size):
                self._add(path, eval_, followed, known, files)
        return files

    def _is_due(self, followed: _Followed, size: int) -> bool:
        new = size - followed.position
        return new >= LEAST or (new > 0 and time.monotonic() - followed.at >= self._every)

    def _known(self, segments: dict[SegmentName, TreeEntry]) -> set[bytes]:
        contents = _contents(self._repository, segments, [])
        return {_digest(line) for _, lines in contents for line in lines.split(b"\n")}

    def _add(
        self, path: Path, eval_: str, followed: _Followed, known: set[bytes], files: dict[str, Path]
    ) -> None:
        name = str(path.relative_to(self._layout.root))
        after = msgspec.structs.replace(followed)
        most = min(MOST_OF_A_SEGMENT, self._filter.max_file)
        for group in grouped(self._public(path, name, after, known), most):
            segment, stored = pack(eval_, group[0][0], (line for _, line in group))
            if len(stored) > self._filter.max_file:  # a single line is so large
                self._filter.exclude_large(f"{name}, line {group[0][0]}", group[0][1])
                continue
            target = self._filter.folder / f"segment-{len(files)}"
            with named(target, "write"):
                target.write_bytes(stored)
            files[f"{self._layout.answers.relative_to(self._layout.root)}/{segment}"] = target
            after.at = time.monotonic()
        self._next[eval_] = after

    def _public(
        self, path: Path, name: str, after: _Followed, known: set[bytes]
    ) -> Iterator[tuple[int, bytes]]:
        """New lines that may be seen, with their numbers; `after` follows them."""
        for line in _whole_lines(path, after.position):
            after.position += len(line)
            after.lines += 1
            if (
                _digest(line[:-1]) not in known
                and read_line(line) is not None
                and self._filter.may_have(name, after.lines, line)
            ):
                yield after.lines, line

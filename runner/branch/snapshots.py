import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from runner.branch.filter import COMPRESSED, SnapshotFilter
from runner.branch.git import TreeEntry
from runner.branch.progress_branch import (
    About,
    MovedError,
    ProgressBranch,
    default_branch,
    message,
    open_branch,
    state_prefix,
)
from runner.branch.remote import PATIENCE, OvertakenError, reaching
from runner.branch.restore import restore_progress
from runner.branch.segments import AnswerSegments, on_branch, restore_answers
from runner.host import Host
from runner.options import SnapshotOptions
from runner.records.layout import Layout
from runner.records.logs import all_logs
from runner.records.snapshot import README, ExcludedFile, FileKind, kind_of, merge
from runner.records.state import RunState, StateReader
from runner.report.markdown import BranchPage
from runner.report.text import evals
from runner.secrets import Scanner

T = TypeVar("T")

# How often somebody else may be faster before a push is left to the next snapshot.
PUSHES = 40

# How often another process may have moved or locked the branch in the same repository.
COMMITS = 12

# Seconds; a pause is a random part of twice as many each time, so that not all come back at once.
FIRST_PAUSE = 0.3
LONGEST_PAUSE = 5.0
LONGEST_LOCAL_PAUSE = 1.0

LEFT_OUT = "left-out.jsonl"

# In the place of a page that holds a secret.
NO_PAGE = "# Progress of evals\n\nThis page is left out because it would show a secret.\n"


class Restored(msgspec.Struct, frozen=True):
    """What a branch brought into a progress directory.

    Attributes:
        finished: commands that it has as finished.
        answers: of providers.
        left: answers files that it has and the directory has not, where none were asked for.
    """

    finished: int = 0
    answers: int = 0
    left: int = 0

    def about_left(self, branch: str) -> str:
        """Say on one line what stays on the branch; empty if nothing does."""
        if not self.left:
            return ""
        return (
            f"the branch {branch} has answers for {evals(self.left)}, which stay there; "
            "--snapshot-answers takes them over, so that they are not paid for again"
        )


class Snapshots:
    """Puts a progress directory on its branch, and the branch on its remote.

    Attributes:
        tip: the newest snapshot; None where there is none.
        pushes: how often a push was attempted.
    """

    def __init__(
        self,
        branch: ProgressBranch,
        layout: Layout,
        *,
        snapshot_filter: SnapshotFilter,
        about: About,
        answers: AnswerSegments | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.branch = branch
        self.remote = branch.remote
        self.tip = branch.tip()
        self.pushes = 0
        self._layout = layout
        self._filter = snapshot_filter
        self._about = about
        self._answers = answers
        self._sleep = sleep
        self._reader = StateReader()
        self._page = BranchPage()
        self._start = state_prefix(layout)
        self._pushed: str | None = None
        self._is_overtaken = False
        # Snapshots that nobody else has seen; and the logs that the branch has, if that is known.
        self._unseen: set[str] = set()
        self._on_branch: set[str] | None = None
        self._has_looked_around = False

    def restore(self, *, warn: Callable[[str], None]) -> Restored:
        """Fetch the branch, and add what it has here, as `restore_progress` does.

        Answers count as results, so they are taken over only where they were asked for.
        """
        with reaching(self.remote):
            self.fetch()
        if self.tip is None:
            return Restored()
        repository, layout = self.branch.repository, self._layout
        answers = left = 0
        if self._answers is not None:
            answers = restore_answers(repository, self.tip, layout, warn=warn)
        else:
            there = on_branch(repository, self.tip, layout).segments
            left = sum(not (layout.answers / f"{name}.jsonl").exists() for name in there)
        finished = restore_progress(self.branch, self.tip, layout, reader=self._reader, warn=warn)
        return Restored(finished, answers, left)

    @property
    def name(self) -> str:
        """The branch in words: one that the remote was not seen to have is said to be here."""
        return self.branch.name if self._pushed else f"{self.branch.name} here"

    def fetch(self, *, seconds: float = PATIENCE) -> None:
        """Bring the remote's snapshots here, and merge them with ours."""
        if self.remote is not None:
            self._retry(lambda: self._fetch(seconds), OvertakenError)

    def take(self, *, everything: bool = True) -> bool:
        """Commit what is new; False if nothing is.

        Args:
            everything: whether answers do not wait for more of them.
        """
        return self._retry(lambda: self._take(everything=everything), MovedError)

    def push(self, *, seconds: float = PATIENCE) -> None:
        """Make the remote's branch what ours is, merged with what others have pushed meanwhile.

        Raises:
            RemoteError: the remote is away, or refuses.
            OvertakenError: others were faster each time.
        """
        if self.remote is not None and self.tip is not None and self.tip != self._pushed:
            self._retry(lambda: self._push(seconds), OvertakenError)

    def _retry(self, action: Callable[[], T], error: type[Exception]) -> T:
        is_local = error is MovedError
        most, longest = (COMMITS, LONGEST_LOCAL_PAUSE) if is_local else (PUSHES, LONGEST_PAUSE)
        failed = 0
        while True:
            try:
                return action()
            except error:
                if is_local:
                    self.tip, self._on_branch = self.branch.tip(), None
                    if self._answers is not None:
                        self._answers.forget()
                failed += 1
                if failed == most:
                    raise
                self._sleep(random.uniform(0, min(FIRST_PAUSE * 2 ** (failed - 1), longest)))  # noqa: S311 - spreads attempts, hides nothing

    def _fetch(self, seconds: float) -> None:
        theirs = self.branch.fetch(seconds=seconds)
        if theirs is not None and theirs != self.tip:
            self._retry(lambda: self._join(theirs), MovedError)
        self._pushed = theirs

    def _push(self, seconds: float) -> None:
        assert self.remote is not None  # noqa: S101 - `push` has looked
        assert self.tip is not None  # noqa: S101 - as above
        if self._is_overtaken:
            # After the pause, not before it: others would be the faster ones meanwhile.
            self._fetch(seconds)
            self._is_overtaken = False
        self.pushes += 1
        try:
            self.remote.push(self.tip, self.branch.name, seconds=seconds)
        except OvertakenError:
            self._is_overtaken = True
            raise
        self._pushed = self.tip
        self._unseen.clear()

    def _take(self, *, everything: bool) -> bool:
        before = self.branch.states(self.tip)
        for name, content in before.items():
            if name.endswith(f".{LEFT_OUT}"):
                self._filter.exclude_again(ExcludedFile.read(content))
        states = before | self._states_here(before)
        files = self._filter.files_for(self._logs_here())
        if self._answers is not None and states:  # without any it would be no progress branch
            files |= self._answers.new(self.tip, everything=everything)
        if self._filter.excluded:
            here = b"".join(one.line for one in self._filter.excluded.values())
            name = self._start + LEFT_OUT
            states[name] = merge(name, states.get(name, b""), here)
        is_new = bool(files) or states != before
        if is_new:
            self._put([self.tip] if self.tip else [], before, states, files=files)
        if self._answers is not None:
            self._answers.taken()
        return is_new

    def _put(
        self,
        parents: list[str],
        before: dict[str, bytes],
        states: dict[str, bytes],
        *,
        files: Mapping[str, Path] | None = None,
        logs: Sequence[TreeEntry] = (),
    ) -> None:
        """Commit logs, and what of the state files is not as it was in the first parent."""
        made = {path: content for path, content in states.items() if before.get(path) != content}
        runs = RunState.from_branch(
            states, source=f"branch {self.branch.name}", reader=self._reader
        )
        page = self._page.of(runs).decode()
        made[README] = self._filter.public("the branch's page", page, instead=NO_PAGE).encode()
        entries = [*logs, *self.branch.store(files or {}, made)]
        text = self._message(runs, before, states)
        text = self._filter.public("the commit's message", text, instead="snapshot\n")
        self.tip = self.branch.put(parents, entries, states, text, old=self.tip)
        self._unseen.add(self.tip)
        if self._on_branch is not None:
            self._on_branch.update(entry.path for entry in entries)

    def _states_here(self, before: dict[str, bytes]) -> dict[str, bytes]:
        """The state files of the progress directory, merged with those of the branch."""
        merged = {}
        for name in self._layout.state_files():
            content = self._reader.content(self._layout.root / name)
            if content is None:  # a reset has just given it a date
                continue
            if kind_of(name) is FileKind.LINES:
                content = self._filter.lines_of(name, content)
                if content.startswith(before.get(name, b"")):  # as always while we are alone
                    merged[name] = content
                    continue
            elif content != before.get(name) and self._filter.excludes_whole(name, content):
                continue
            merged[name] = merge(name, content, before.get(name, content))
        return merged

    def _logs_here(self) -> list[str]:
        """Logs of this host that the branch does not have."""
        if self._on_branch is None:
            repository = self.branch.repository
            files = repository.files(self.tip, "evallogs/") if self.tip else []
            self._on_branch = {entry.path for entry in files}
        state = RunState.from_directory(self._layout, self._reader)
        # Logs that no record names are upstream's, from before.
        wanted = state.logs if self._has_looked_around else all_logs(self._layout, state)
        self._has_looked_around = True
        return [
            name
            for name in wanted
            if name not in self._on_branch
            and name + COMPRESSED not in self._on_branch
            and not self._filter.excludes(name)
            and self._layout.is_log(name)
        ]

    def _join(self, theirs: str) -> None:
        repository = self.branch.repository
        ours = self.tip
        if ours is not None and (ours == theirs or repository.is_ancestor(theirs, ours)):
            return
        if ours is None or repository.is_ancestor(ours, theirs):
            self.branch.move(theirs, old=ours, why="fetched")
            self.tip, self._on_branch = theirs, None
            return
        logs, states = self.branch.joined(theirs, ours)
        # It follows theirs alone if nobody has seen the rest of ours.
        rest = repository.run("rev-list", f"{theirs}..{ours}").decode().split()
        parents = [theirs] if self._unseen.issuperset(rest) else [theirs, ours]
        self._put(parents, self.branch.states(theirs), states, logs=logs)
        self._on_branch = None

    def _message(
        self, runs: Sequence[RunState], before: dict[str, bytes], states: dict[str, bytes]
    ) -> str:
        of = (self._layout.model, self._layout.eval_set)
        own = next((run for run in runs if (run.model, run.eval_set) == of), None)
        name = f"{self._start}progress.txt"
        added = states.get(name, b"").count(b"\n") - before.get(name, b"").count(b"\n")
        done = set(own.finished.commands) if own else set()
        planned = own.run.commands if own and own.run else ()
        commands = planned or (own.finished.commands if own else ())
        return message(
            self._about,
            done=sum(command in done for command in commands),
            total=len(commands),
            added=added,
        )


@contextmanager
def open_snapshots(
    options: SnapshotOptions,
    layout: Layout,
    host: Host,
    *,
    about: About,
    environment: Mapping[str, str],
    warn: Callable[[str], None],
) -> Iterator[Snapshots]:
    """The snapshots of a progress directory; the values of `environment` are kept out of them."""
    name = options.branch or default_branch(layout.model, layout.eval_set)
    with open_branch(options, layout.root, host, name=name, make=True) as branch:
        branch.check_name()
        branch.check_free()
        snapshot_filter = SnapshotFilter(
            root=layout.root,
            scanner=Scanner(environment),
            max_file=options.max_file,
            host=host.name,
            folder=branch.folder,
            warn=warn,
        )
        answers = None
        if options.answers:
            answers = AnswerSegments(
                branch.repository, layout, snapshot_filter, every=options.every
            )
        yield Snapshots(
            branch, layout, snapshot_filter=snapshot_filter, about=about, answers=answers
        )

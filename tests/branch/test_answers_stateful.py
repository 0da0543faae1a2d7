"""Hosts that are given answers, take snapshots, merge them and resume from them, in any order."""

import functools
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.branch.filter import SnapshotFilter
from runner.branch.git import Repository, TreeEntry
from runner.branch.segments import AnswerSegments, restore_answers
from runner.records.answers import Answer, AnswersFile
from runner.records.layout import Layout
from runner.records.snapshot import SegmentName, merge_files
from runner.secrets import Scanner
from tests.amount import amount
from tests.answered import kept_in
from tests.outcomes import job

HOSTS = ("a", "b", "c")
EVALS = ("x", "y")
HELD = "hunter2-hunter2"

hosts = st.sampled_from(HOSTS)
evals = st.sampled_from(EVALS)

Branch = dict[str, bytes]


class Memory:
    """As much of a repository as answers need: one branch, whose files are in memory."""

    def __init__(self) -> None:
        self.branch: Branch = {}

    def files(self, _commit: str, below: str) -> list[TreeEntry]:
        """Those of the branch; their object id is their path."""
        paths = [path for path in sorted(self.branch) if path.startswith(below)]
        return [TreeEntry(path=path, oid=path) for path in paths]

    def sizes(self, oids: Sequence[str]) -> list[int]:
        """Of their contents."""
        return [len(self.branch[oid]) for oid in oids]

    def read(self, oids: Sequence[str]) -> list[bytes]:
        """Their contents."""
        return [self.branch[oid] for oid in oids]


class Merging(RuleBasedStateMachine):
    """Three hosts with a progress directory and a branch each, and a remote between them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.layouts = {
            name: Layout(root=self.folder / name, model="m", eval_set="s") for name in HOSTS
        }
        self.repositories = {name: Memory() for name in (*HOSTS, "remote")}
        self.segments = {name: self.made(name) for name in HOSTS}
        # What each must know, whatever comes: ids of answers.
        self.here: dict[str, set[str]] = {name: set() for name in HOSTS}
        self.on: dict[str, set[str]] = {name: set() for name in (*HOSTS, "remote")}
        self.seen: Branch = {}
        self.secret: set[str] = set()
        self.numbers = itertools.count()

    def made(self, host: str) -> AnswerSegments:
        """What a new process on a host follows the answers files with."""
        snapshot_filter = SnapshotFilter(
            root=self.folder / host,
            scanner=Scanner({"MY_KEY": HELD}),
            max_file=2000,
            host=host,
            folder=self.folder,
            warn=lambda _: None,
        )
        repository = cast("Repository", self.repositories[host])
        return AnswerSegments(repository, self.layouts[host], snapshot_filter, every=1000)

    def path(self, host: str, name: str) -> Path:
        """An answers file."""
        return self.layouts[host].answers_of(job(name).command)

    def teardown(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.folder)

    @rule(
        host=hosts,
        name=evals,
        count=st.integers(1, 30),
        body=st.sampled_from(["short", "long" * 300, HELD]),
    )
    def answer(self, host: str, name: str, count: int, body: str) -> None:
        """A provider answers some requests of an eval."""
        with AnswersFile(self.path(host, name)) as file:
            for _ in range(count):
                id_ = f"{host}{next(self.numbers)}"
                file.write(Answer(id=id_, key="k", body=body))
                self.here[host].add(id_)
                if body == HELD:
                    self.secret.add(id_)

    @rule(host=hosts, name=evals)
    def tear(self, host: str, name: str) -> None:
        """A crash in the middle of a line."""
        with AnswersFile(self.path(host, name)):
            pass
        with self.path(host, name).open("ab") as file:
            file.write(b'{"kind":"answer","id":"torn')

    @rule(host=hosts, everything=st.booleans(), well=st.booleans())
    def snapshot(self, host: str, everything: bool, well: bool) -> None:  # noqa: FBT001 - drawn
        """What is new goes to the branch, unless the commit fails."""
        memory = self.repositories[host]
        tip = "tip" if memory.branch else None
        files = self.segments[host].new(tip, everything=everything)
        contents = {path: stored.read_bytes() for path, stored in files.items()}
        if not well:
            return
        memory.branch = merge_files(memory.branch, contents)
        self.segments[host].taken()
        now = ids_of(memory.branch)
        assert now >= self.on[host]
        assert now <= (self.on[host] | self.here[host]) - self.secret
        if everything:
            assert now >= self.here[host] - self.secret
        self.on[host] = now

    @rule(host=hosts)
    def push(self, host: str) -> None:
        """The remote's branch and the host's become the same, whoever was first."""
        ours, theirs = self.repositories[host], self.repositories["remote"]
        both = merge_files(theirs.branch, ours.branch)
        assert both == merge_files(ours.branch, theirs.branch)
        ours.branch = dict(both)
        theirs.branch = dict(both)
        self.on["remote"] |= self.on[host]
        self.on[host] |= self.on["remote"]

    @rule(host=hosts)
    def resume(self, host: str) -> None:
        """Another process begins: what the branch has is brought into the answers files."""
        self.segments[host] = self.made(host)
        said: list[str] = []
        repository = cast("Repository", self.repositories[host])
        added = restore_answers(repository, "tip", self.layouts[host], warn=said.append)
        assert added == len(self.on[host] - self.here[host])
        assert said == []
        self.here[host] |= self.on[host]

    @precondition(lambda self: any(self.on.values()))
    @rule(order=st.permutations([*HOSTS, "remote"]))
    def merge_all(self, order: list[str]) -> None:
        """In whatever order branches are merged, once or twice, the result is their union."""
        branches = [self.repositories[name].branch for name in order]
        whole = functools.reduce(merge_files, branches)
        assert whole == functools.reduce(merge_files, [*branches, *branches])
        assert whole == {path: self.seen[path] for branch in branches for path in branch}
        assert ids_of(whole) == set().union(*self.on.values())

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each host and branch has exactly what it must have."""
        for host, known in self.here.items():
            found = [
                kept.id
                for name in EVALS
                if self.path(host, name).exists()
                for kept in kept_in(self.path(host, name).read_bytes())
            ]
            assert sorted(found) == sorted(known)
        for name, known in self.on.items():
            assert ids_of(self.repositories[name].branch) == known

    @invariant()
    def nothing_is_rewritten(self) -> None:
        """What a path once held it holds for ever, on every branch; none is too large."""
        for memory in self.repositories.values():
            for path, stored in memory.branch.items():
                assert self.seen.setdefault(path, stored) == stored
                assert len(stored) <= 2000


def ids_of(branch: Branch) -> set[str]:
    """The answers in a branch's segments."""
    found = set()
    for path, stored in branch.items():
        name = SegmentName.read(path)
        assert name is not None
        for line in name.lines(stored).splitlines():
            found.add(msgspec.json.decode(line)["id"])
    return found


TestMerging = Merging.TestCase
TestMerging.settings = settings(
    max_examples=amount(30, 1000), stateful_step_count=amount(20, 60), deadline=None
)

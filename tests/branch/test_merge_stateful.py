"""Hosts that finish evals, take snapshots and merge them, in any order."""

import functools
import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.branch.restore import add_lines
from runner.model import Result
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile, parse_attempts, parse_progress
from runner.records.snapshot import merge
from runner.records.state import RunState, StateReader
from tests.amount import amount
from tests.outcomes import failure, job, success

HOSTS = ("a", "b", "c")
PATHS = ("oaievalset/m.s.progress.txt", "oaievalset/m.s.attempts.jsonl")

hosts = st.sampled_from(HOSTS)
evals = st.sampled_from([f"eval-{number}" for number in range(6)])


class Known(msgspec.Struct):
    """What somebody must know: the model of a progress directory, or of a branch."""

    finished: set[str] = msgspec.field(default_factory=set)
    attempted: set[str] = msgspec.field(default_factory=set)

    def join(self, other: "Known") -> None:
        """Know what the other one knows as well."""
        self.finished |= other.finished
        self.attempted |= other.attempted


Branch = dict[str, bytes]


def joined(one: Branch, other: Branch) -> Branch:
    """Two branches' state files, merged as a snapshot or a fetch merges them."""
    return {path: merge(path, one.get(path, b""), other.get(path, b"")) for path in PATHS}


class Merging(RuleBasedStateMachine):
    """Three hosts with a progress directory and a branch each, and a remote between them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.layouts = {
            name: Layout(root=self.folder / name, model="m", eval_set="s") for name in HOSTS
        }
        self.here = {name: Known() for name in HOSTS}
        self.branches: dict[str, Branch] = {name: {} for name in (*HOSTS, "remote")}
        self.on = {name: Known() for name in (*HOSTS, "remote")}
        self.numbers = itertools.count()

    def teardown(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.folder)

    @rule(
        host=hosts, names=st.lists(evals, min_size=1, max_size=3, unique=True), well=st.booleans()
    )
    def attempt(self, host: str, names: list[str], well: bool) -> None:  # noqa: FBT001 - drawn
        """Evals end on a host, those that end well for the first time there are finished."""
        known = self.here[host]
        names = [name for name in names if name not in known.finished]
        make = success if well else failure
        outcomes = [make(job(name), f"{host}{next(self.numbers)}", host=host) for name in names]
        with AttemptsFile(self.layouts[host].attempts) as file:
            file.add_records(*outcomes)
        with ProgressFile(self.layouts[host].progress) as file:
            file.add_commands(*(each.command for each in outcomes if well))
        known.attempted |= {each.id for each in outcomes}
        known.finished |= {*names} if well else set()

    @rule(host=hosts, torn=st.booleans())
    def snapshot(self, host: str, torn: bool) -> None:  # noqa: FBT001 - drawn
        """What a host has is put on its branch; a line that is being written is not."""
        files = {path: self.content(host, path) for path in PATHS}
        if torn:
            files = {path: content + b'["half' for path, content in files.items()}
        self.branches[host] = joined(self.branches[host], files)
        self.on[host].join(self.here[host])

    @rule(host=hosts)
    def push(self, host: str) -> None:
        """The remote's branch and the host's become the same, whoever was first."""
        both = joined(self.branches["remote"], self.branches[host])
        assert both == joined(self.branches[host], self.branches["remote"])
        self.branches["remote"] = self.branches[host] = both
        self.on["remote"].join(self.on[host])
        self.on[host].join(self.on["remote"])

    @rule(host=hosts)
    def go_on(self, host: str) -> None:
        """A run begins: what the branch has is brought into the progress directory."""
        before = len(self.here[host].finished)
        self.here[host].join(self.on[host])
        there, layout = self.branches[host], self.layouts[host]
        theirs = StateReader().of_branch("oaievalset/m.s", there, "branch")
        here = RunState.from_directory(layout)
        added = add_lines(layout, theirs, there.get(PATHS[1], b""), here=here)
        assert added == len(self.here[host].finished) - before

    @precondition(lambda self: any(self.branches.values()))
    @rule(order=st.permutations([*HOSTS, "remote"]))
    def merge_all(self, order: list[str]) -> None:
        """In whatever order branches are merged, once or twice, the result is the same."""
        branches = [self.branches[name] for name in order]
        whole = functools.reduce(joined, branches)
        assert whole == functools.reduce(joined, sorted(branches, key=repr))
        assert whole == functools.reduce(joined, [*branches, *branches])
        everything = Known()
        for known in self.on.values():
            everything.join(known)
        self.check(whole[PATHS[0]], whole[PATHS[1]], everything)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """Each host and each branch has exactly what it must know, each line once."""
        for name, known in self.here.items():
            self.check(self.content(name, PATHS[0]), self.content(name, PATHS[1]), known)
        for name, known in self.on.items():
            branch = self.branches[name]
            self.check(branch.get(PATHS[0], b""), branch.get(PATHS[1], b""), known)

    def check(self, finished: bytes, tried: bytes, known: Known) -> None:
        """Compare files with the model."""
        commands = parse_progress(finished, "progress")
        records = parse_attempts(tried, "attempts")
        assert not commands.damaged + records.damaged
        assert {command[2] for command in commands.commands} == known.finished
        assert finished.count(b"\n") == len(known.finished)
        counts = Counter(record.id for record in records.records)
        assert counts == Counter(known.attempted)
        well = {record.eval for record in records.records if record.result is Result.SUCCESS}
        assert well == known.finished

    def content(self, host: str, path: str) -> bytes:
        """What a file of a host's progress directory holds."""
        file = self.layouts[host].root / path
        return file.read_bytes() if file.exists() else b""


TestMerging = Merging.TestCase
TestMerging.settings = settings(
    max_examples=amount(30, 2000), stateful_step_count=amount(20, 60), deadline=None
)

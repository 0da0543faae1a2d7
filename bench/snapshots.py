"""Snapshots: against plain Git, in large branches against small ones, and against doing without."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figure import EVALSET, ROOT, Figure, in_turn, seconds
from runner.branch.snapshots import Snapshots
from runner.records.progress import AttemptsFile, ProgressFile
from tests.branch.desk import BRANCH, Desk, git, make_bare
from tests.branch.writers import missing, write_at_once
from tests.outcomes import job, success

# An eval leaves two files: its log, and what its container printed.
LARGE = 5000
SMALL = 50

EVALS = 40


def _finish(desk: Desk, names: Sequence[str]) -> None:
    """Put evals on record as a run does, each with both of its files."""
    layout = desk.layout
    layout.evallogs.mkdir(parents=True, exist_ok=True)
    records = []
    for name in names:
        log = f"evallogs/{desk.eval_set}{name}_m_{name}.jsonl"
        outcome = success(
            job(name),
            attempt=f"{desk.eval_set}{name}",
            host=desk.name,
            logs=(log,),
            console_log=str(Path(log).with_suffix(".console.log")),
            started_at="2025-01-01T00:00:00Z",
            final_report={"accuracy": 0.5},
            samples=3,
        )
        for path in (*outcome.logs, str(outcome.console_log)):
            (layout.root / path).write_text(f'{{"eval": "{name}"}}\n' * 50)
        records.append(outcome)
    with AttemptsFile(layout.attempts) as file:
        file.add_records(*records)
    with ProgressFile(layout.progress) as file:
        file.add_commands(*(record.command for record in records))


def _filled(folder: Path, evals: int, *, sets: int = 1) -> Desk:
    """A host whose branch has so many finished evals, and a hundred to do in the last set."""
    repository = make_bare(folder / "repository.git")
    for number in range(sets):
        desk = Desk(folder / "host", repository, eval_set=f"s{number}")
        names = [f"eval-{number}.dev.v0" for number in range(evals // sets)]
        desk.plan(*names, *(f"new-{number}.dev.v0" for number in range(100)))
        _finish(desk, names)
        with desk.snapshots(branch=BRANCH) as (snapshots, _):
            snapshots.take()
    files = len(desk.files_on_branch())
    if files < 2 * evals:
        raise SystemExit(f"the branch has {files} files")
    return desk


def _one_more(desk: Desk, snapshots: Snapshots, number: int) -> float:
    """Seconds for a snapshot of one new eval."""
    _finish(desk, [f"new-{number}.dev.v0"])
    began = time.perf_counter()
    snapshots.take()
    return time.perf_counter() - began


def in_a_large_branch(runs: int, *, sets: int) -> Figure:
    """A snapshot of one new eval into a branch of 10,000 files against one of 100."""
    of = f"{sets} eval sets" if sets > 1 else "a single eval set of 5,000"
    with tempfile.TemporaryDirectory() as folder:
        large = _filled(Path(folder, "large"), LARGE, sets=sets)
        small = _filled(Path(folder, "small"), SMALL)
        with (
            large.snapshots(branch=BRANCH) as (many, _),
            small.snapshots(branch=BRANCH) as (few, _),
        ):
            numbers = iter(range(100))
            _one_more(large, many, 99)
            _one_more(small, few, 99)
            mine, other = in_turn(
                lambda: _one_more(large, many, next(numbers)),
                lambda: _one_more(small, few, next(numbers)),
                runs,
            )
    return Figure(
        name=f"a snapshot of one new eval into 10,000 files, of {of}, against into 100",
        ratio=mine / other,
        goal=3.0,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="Snapshots.take in a run's process; the smaller branch is one eval set of 50",
    )


class _Plain:
    """A copy of a repository, to which the same changes are committed by plain Git."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self._repository = shutil.copytree(repository, folder / "plain.git")
        self._folder = folder
        self._environ = os.environ | {"GIT_INDEX_FILE": str(folder / "index")}
        self._environ |= {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.invalid"}
        self._environ |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.invalid"}
        self._git("read-tree", BRANCH)

    def repeat(self, source: Path) -> float:
        """Seconds for the change that the newest snapshot of another repository made."""
        changed = git(source, "diff-tree", "-r", "--name-only", f"{BRANCH}~1", BRANCH).splitlines()
        paths = [self._folder / f"file-{number}" for number in range(len(changed))]
        for path, name in zip(paths, changed, strict=True):
            said = subprocess.run(
                ["git", "-C", source, "cat-file", "blob", f"{BRANCH}:{name}"],
                capture_output=True,
                check=True,
            )
            path.write_bytes(said.stdout)
        parent = git(self._repository, "rev-parse", BRANCH)
        began = time.perf_counter()
        listed = "".join(f"{path}\n" for path in paths)
        oids = self._git("hash-object", "-w", "--no-filters", "--stdin-paths", said=listed).split()
        entries = zip(oids, changed, strict=True)
        lines = "".join(f"100644 {oid}\t{name}\n" for oid, name in entries)
        self._git("update-index", "--add", "--index-info", said=lines)
        tree = self._git("write-tree").strip()
        commit = self._git("commit-tree", tree, "-p", parent, "-m", "x").strip()
        self._git("update-ref", f"refs/heads/{BRANCH}", commit, parent)
        took = time.perf_counter() - began
        if tree != git(source, "rev-parse", f"{BRANCH}^{{tree}}"):
            raise SystemExit("plain Git made another tree than the snapshot")
        return took

    def _git(self, *arguments: str, said: str = "") -> str:
        done = subprocess.run(
            ["git", f"--git-dir={self._repository}", *arguments],
            input=said,
            capture_output=True,
            text=True,
            check=True,
            env=self._environ,
        )
        return done.stdout


def against_plain_git(runs: int) -> Figure:
    """The same snapshot against the same change by Git's plumbing, which knows what has changed."""
    with tempfile.TemporaryDirectory() as folder:
        desk = _filled(Path(folder), LARGE)
        with desk.snapshots(branch=BRANCH) as (snapshots, _):
            plain = _Plain(desk.clone, Path(folder))
            numbers = iter(range(100))
            _one_more(desk, snapshots, 99)
            plain.repeat(desk.clone)
            mine, other = in_turn(
                lambda: _one_more(desk, snapshots, next(numbers)),
                lambda: plain.repeat(desk.clone),
                runs,
            )
    return Figure(
        name="one into 10,000 files of one eval set against plain Git, which makes the same tree",
        ratio=mine / other,
        goal=2.0,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="Snapshots.take; git hash-object, update-index, write-tree, commit-tree, update-ref",
    )


def many_writers(writers: int, snapshots: int) -> Figure:
    """Pushes for each snapshot that landed, where many push at once and nothing may be lost."""
    with tempfile.TemporaryDirectory() as folder:
        hub = make_bare(Path(folder, "hub.git"))
        pushes = sum(write_at_once(Path(folder), hub, writers=writers, snapshots=snapshots))
        if lost := missing(hub, writers=writers, snapshots=snapshots):
            raise SystemExit(f"lost with {writers} writers: {', '.join(lost)}")
    landed = writers * snapshots
    return Figure(
        name=f"pushes per landed snapshot, {writers} writers with {snapshots} each, nothing lost",
        ratio=pushes / landed,
        goal=10.0,
        unit="pushes",
        ours=pushes,
        theirs=landed,
        runs=1,
        what="processes that record an eval, take a snapshot and push it, to one bare repository",
    )


def wall_time(runs: int) -> Figure:
    """A run of 40 real evals with `--snapshot` against the same run without."""
    with tempfile.TemporaryDirectory() as folder:
        line = [*_forty_evals(Path(folder)), "--progress-dir", str(Path(folder, "progress"))]

        def run(*options: str | Path) -> float:
            shutil.rmtree(Path(folder, "progress"), ignore_errors=True)
            return seconds([*line, *options], cwd=folder)

        def with_snapshots() -> float:
            hub = Path(folder, "hub.git")
            shutil.rmtree(hub, ignore_errors=True)
            took = run("--snapshot", "--remote", make_bare(hub))
            name = git(hub, "for-each-ref", "--format=%(refname)")
            finished = git(hub, "show", f"{name}:oaievalset/dummy.forty.progress.txt")
            if len(finished.splitlines()) != EVALS:
                raise SystemExit(f"the branch has not all evals:\n{finished}")
            return took

        mine, other = in_turn(with_snapshots, run, runs)
    return Figure(
        name=f"wall time of a run of {EVALS} evals with --snapshot against without",
        ratio=mine / other,
        goal=1.05,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="evalset run dummy, openai/evals' Match, one container per CPU, pushed to a bare file",
    )


def _forty_evals(folder: Path) -> list[str | Path]:
    """The command line of a run of evals like the demo's `match`."""
    for kind in ("evals", "eval_sets", "data"):
        (folder / "registry" / kind).mkdir(parents=True)
    shutil.copyfile(ROOT / "registry/data/demo/match.jsonl", folder / "registry/data/forty.jsonl")
    entries = "".join(
        f"match-{number}:\n  id: match-{number}.dev.v0\n"
        f"match-{number}.dev.v0:\n  class: evals.elsuite.basic.match:Match\n"
        "  args: {samples_jsonl: forty.jsonl}\n"
        for number in range(EVALS)
    )
    (folder / "registry/evals/forty.yaml").write_text(entries)
    names = ", ".join(f"match-{number}" for number in range(EVALS))
    (folder / "registry/eval_sets/forty.yaml").write_text(f"forty:\n  evals: [{names}]\n")
    return [EVALSET, "run", "dummy", "forty", "--registry-path", folder / "registry"]

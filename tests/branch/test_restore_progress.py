import subprocess
from pathlib import Path

import pytest

from runner.branch.restore import restore_progress
from runner.data.lock import DataLock, add_locks, parse_locks
from runner.records.run_file import read_run_file
from tests.branch.desk import BRANCH, Desk, git, put_on_branch


def bring(desk: Desk) -> tuple[int, list[str]]:
    """Fetch the branch into a desk's progress directory."""
    with desk.snapshots() as (snapshots, warnings):
        snapshots.fetch()
        assert snapshots.tip is not None
        said: list[str] = []
        added = restore_progress(snapshots.branch, snapshots.tip, desk.layout, warn=said.append)
    return added, [*warnings, *said]


def push(desk: Desk, *, max_file: int = 50 * 2**20) -> None:
    """Put a desk's progress directory on the remote's branch."""
    with desk.snapshots(max_file=max_file) as (snapshots, _):
        snapshots.take()
        snapshots.push()


def test_another_host_gets_all(two: tuple[Desk, Desk]) -> None:
    """What is finished, how attempts ended, the logs, and what the run was pinned to."""
    a, b = two
    a.plan("x", "y", "z")
    a.succeed("x", "y")
    a.fail("z")
    push(a)
    added, warnings = bring(b)
    assert (added, warnings) == (2, [])
    for name in ("progress", "attempts", "run"):
        assert getattr(b.layout, name).read_bytes() == getattr(a.layout, name).read_bytes()
    logs = {path.name: path.read_bytes() for path in a.layout.evallogs.iterdir()}
    assert {path.name: path.read_bytes() for path in b.layout.evallogs.iterdir()} == logs


def test_what_is_there_stays_as_it_is(two: tuple[Desk, Desk]) -> None:
    """Lines are appended, no log is replaced, and bringing it again adds nothing."""
    a, b = two
    a.succeed("x", "y")
    push(a)
    b.succeed("z")
    before = b.layout.progress.read_bytes()
    own = b.layout.evallogs / "hostx_m_x.jsonl"
    own.write_bytes(b"own\n")
    assert bring(b)[0] == 2
    assert b.layout.progress.read_bytes().startswith(before)
    assert b.finished() == ["z", "x", "y"]
    assert own.read_bytes() == b"own\n"
    assert bring(b) == (0, [])
    assert b.finished() == ["z", "x", "y"]
    assert len(b.attempted()) == 3


def test_a_compressed_log_arrives_as_it_was(two: tuple[Desk, Desk]) -> None:
    """The other host does not see that it was large."""
    a, b = two
    a.succeed("x", log=b"line\n" * 1000)
    push(a, max_file=1000)
    assert bring(b) == (1, [])
    (log,) = b.layout.evallogs.iterdir()
    assert (log.name, log.read_bytes()) == ("ax_m_x.jsonl", b"line\n" * 1000)


def test_locks_of_data_arrive_and_stay(two: tuple[Desk, Desk]) -> None:
    """The other host fetches what they say; its own are kept, in the order in which they came."""
    a, b = two
    ours, theirs = (DataLock(eval=name, key="k", sha256=name * 64) for name in "ab")
    a.succeed("x")
    add_locks(a.layout.data, [theirs])
    add_locks(b.layout.data, [ours])
    push(a)

    for _ in range(2):
        bring(b)

    assert b.layout.data.read_bytes() == ours.line + theirs.line
    push(b)
    bring(a)
    found = parse_locks(a.layout.data.read_bytes()).values()
    assert sorted(lock.eval for lock in found) == ["a", "b"]


def test_a_newer_run_of_ours_is_not_forgotten(two: tuple[Desk, Desk]) -> None:
    """The branch's is taken over only where it is newer."""
    a, b = two
    a.plan("x", run="261121031336AAAAAAAA")
    b.plan("x", "y", run="261121031337AAAAAAAA")
    push(a)
    bring(b)
    kept = read_run_file(b.layout.run)
    assert kept is not None
    assert kept.run == "261121031337AAAAAAAA"
    push(b)
    bring(a)
    assert a.layout.run.read_bytes() == b.layout.run.read_bytes()


def test_a_run_whose_clock_is_behind_is_not_forgotten(two: tuple[Desk, Desk]) -> None:
    """It knew the other one's file, and says so by its generation."""
    a, b = two
    a.plan("x", run="301121031336AAAAAAAA")
    push(a)
    bring(b)
    b.plan("x", "y", run="261121031337AAAAAAAA")
    push(b)
    for desk in two:
        bring(desk)
        kept = read_run_file(desk.layout.run)
        assert kept is not None
        assert (kept.run, kept.generation) == ("261121031337AAAAAAAA", 2)


def test_damaged_lines_of_the_branch_are_named_and_stay_there(two: tuple[Desk, Desk]) -> None:
    """The rest arrives, and the next snapshot keeps them."""
    a, b = two
    a.succeed("x")
    push(a)
    good = a.layout.progress.read_bytes()
    put_on_branch(a, "oaievalset/m.s.progress.txt", b"[damaged\n" + good)
    added, warnings = bring(b)
    assert added == 1
    (warning,) = warnings
    assert f"branch {BRANCH}:oaievalset/m.s.progress.txt: line 1 cannot be read" in warning
    assert b.finished() == ["x"]
    assert b"[damaged" not in b.layout.progress.read_bytes()
    b.succeed("y")
    push(b)
    assert "[damaged" in b.on_branch("oaievalset/m.s.progress.txt")


@pytest.mark.parametrize(
    ("path", "mode"),
    [("evallogs/link", "120000"), ("evallogs/line\nbreak", "100644")],
)
def test_what_is_no_plain_log_stays_on_the_branch(
    two: tuple[Desk, Desk], path: str, mode: str
) -> None:
    """Whoever may push to the branch can write nothing else on another host."""
    a, b = two
    a.succeed("x")
    push(a)
    put_on_branch(a, path, b"/etc/passwd", mode=mode)
    added, warnings = bring(b)
    assert added == 1
    (warning,) = warnings
    assert "stays on the branch" in warning
    assert "\n" not in warning
    assert [log.name for log in b.layout.evallogs.iterdir()] == ["ax_m_x.jsonl"]


def test_a_path_that_leads_elsewhere_is_not_followed(
    two: tuple[Desk, Desk],
) -> None:
    """Git itself refuses to store such a name, so the tree is made by hand."""
    a, b = two
    a.succeed("x")
    push(a)
    blob = git(a.clone, "rev-parse", f"{BRANCH}:README.md")
    tree = bytes.fromhex(blob)
    raw = b"100644 ..\0" + tree
    made = (
        subprocess.run(
            ["git", "-C", a.clone, "hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
            input=raw,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .strip()
    )
    top = git(a.clone, "ls-tree", BRANCH).splitlines()
    lines = "\n".join(line for line in top if not line.endswith("\tevallogs"))
    new = subprocess.run(
        ["git", "-C", a.clone, "mktree"],
        input=f"{lines}\n040000 tree {made}\tevallogs\n",
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    commit = git(a.clone, "commit-tree", new, "-p", BRANCH, "-m", "hostile")
    git(a.clone, "push", "--quiet", "origin", f"{commit}:refs/heads/{BRANCH}")
    added, warnings = bring(b)
    assert added == 1
    assert "stays on the branch" in " ".join(warnings)
    assert not any(b.layout.root.glob("evallogs/*"))
    assert not (b.layout.root.parent / "README.md").exists()


def test_a_shallow_clone_will_do(two: tuple[Desk, Desk], tmp_path: Path, hub: Path) -> None:
    """A clone of depth 1, of another branch, can resume and push."""
    a, _ = two
    git(a.clone, "push", "--quiet", "origin", "main")
    a.succeed("x")
    push(a)
    a.succeed("y")
    push(a)
    git(tmp_path, "clone", "--quiet", "--depth=1", "--branch=main", f"file://{hub}", "shallow")
    shallow = Desk(tmp_path / "c", tmp_path / "shallow", "c")
    assert bring(shallow) == (2, [])
    shallow.succeed("z")
    push(shallow)
    assert bring(a) == (1, [])
    assert a.finished() == ["x", "y", "z"]

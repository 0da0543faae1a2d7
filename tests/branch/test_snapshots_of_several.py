from pathlib import Path

from tests.branch.desk import BRANCH, LINE, Desk, git


def test_two_hosts_lose_nothing(two: tuple[Desk, Desk]) -> None:
    """A push that comes second is merged and pushed again; history stays in one line."""
    a, b = two
    a.plan("x", "y", "z", "w", run="261121031336AAAAAAAA")
    b.plan("x", "y", "z", "w", run="261121031337AAAAAAAA")
    with a.snapshots() as (one, _), b.snapshots() as (other, _):
        a.succeed("x")
        one.take()
        one.push()
        b.succeed("y")
        b.fail("z")
        other.take()
        other.push()
        a.succeed("w")
        one.take()
        one.push()
    (hub,) = {git(desk.clone, "remote", "get-url", "origin") for desk in two}
    progress = git(Path(hub), "show", f"{BRANCH}:oaievalset/m.s.progress.txt")
    assert sorted(progress.splitlines()) == [LINE.format(name).rstrip() for name in "wxy"]
    attempts = git(Path(hub), "show", f"{BRANCH}:oaievalset/m.s.attempts.jsonl")
    assert len(attempts.splitlines()) == 4
    logs = git(Path(hub), "ls-tree", "-r", "--name-only", BRANCH, "evallogs/").splitlines()
    assert len(logs) == 4
    page = git(Path(hub), "show", f"{BRANCH}:README.md")
    assert "3 of 4 evals finished, 1 failed" in page
    subjects = git(Path(hub), "log", "--format=%s%x09%p", BRANCH).splitlines()
    assert [line.partition("\t")[0] for line in subjects] == [
        "m s 3/4 (+1)",
        "m s 2/4 (+1)",
        "m s 1/4 (+1)",
    ]
    assert all(" " not in line.partition("\t")[2] for line in subjects)


def test_snapshots_that_were_seen_stay_in_the_history(two: tuple[Desk, Desk]) -> None:
    """A later process merges with two parents what it did not take itself."""
    a, b = two
    a.succeed("x")
    b.succeed("y")
    with b.snapshots() as (other, _):
        other.take()
    with a.snapshots() as (one, _):
        one.take()
        one.push()
    with b.snapshots() as (other, _):
        other.push()
        tip = other.tip
    assert len(git(b.clone, "log", "-1", "--format=%p", str(tip)).split()) == 2
    assert set(b.subjects()) == {"m s 1/1 (+1)", "m s 2/2 (+1)"}


def test_another_process_of_the_same_clone_is_merged_too(desk: Desk, tmp_path: Path) -> None:
    """Two runs may share a repository and a branch."""
    other = Desk(tmp_path / "other", desk.clone, "other")
    with desk.snapshots() as (one, _), other.snapshots() as (two, _):
        desk.succeed("x")
        other.succeed("y")
        one.take()
        two.take()
        desk.succeed("z")
        one.take()
    progress = desk.on_branch("oaievalset/m.s.progress.txt").splitlines()
    assert sorted(progress) == [LINE.format(name).rstrip() for name in "xyz"]
    assert len([path for path in desk.files_on_branch() if path.startswith("evallogs/")]) == 3

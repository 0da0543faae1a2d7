import gzip
import os
import subprocess

from tests.branch.desk import BRANCH, LINE, Desk


def test_a_large_file_is_committed_compressed(desk: Desk) -> None:
    """It arrives at another host as it was."""
    log = b'{"event": 1}\n' * 1000
    desk.succeed("x", log=log)
    with desk.snapshots(max_file=1000) as (snapshots, warnings):
        snapshots.take()
    shown = subprocess.run(
        ["git", "-C", desk.clone, "show", f"{BRANCH}:evallogs/hostx_m_x.jsonl.gz"],
        capture_output=True,
        check=True,
    )
    assert gzip.decompress(shown.stdout) == log
    assert warnings == []


def test_a_file_that_is_too_large_stays_here_and_is_listed(desk: Desk) -> None:
    """With name, size and hash, on the branch's page; the user is told once."""
    desk.succeed("x", log=os.urandom(5000))
    desk.succeed("y")
    with desk.snapshots(max_file=1000) as (snapshots, warnings):
        snapshots.take()
        assert not snapshots.take()
    assert "evallogs/hostx_m_x.jsonl" not in desk.files_on_branch()
    assert "evallogs/hosty_m_y.jsonl" in desk.files_on_branch()
    page = desk.on_branch("README.md")
    assert "`evallogs/hostx_m_x.jsonl`" in page
    assert "| 5000 |" in page
    (warning,) = warnings
    assert "evallogs/hostx_m_x.jsonl is left out" in warning
    assert "--snapshot-max-file" in warning


def test_a_log_with_a_secret_stays_here(desk: Desk) -> None:
    """The warning has file and line; nothing on the branch has the value."""
    desk.succeed("x", log=b'{"a": 1}\n{"key": "hunter2-hunter2"}\n')
    desk.succeed("y")
    environment = {"MY_KEY": "hunter2-hunter2"}
    with desk.snapshots(environment=environment) as (snapshots, warnings):
        snapshots.take()
    (warning,) = warnings
    assert "evallogs/hostx_m_x.jsonl" in warning
    assert "line 2" in warning
    assert "MY_KEY" in warning
    assert "hunter2" not in warning
    assert "evallogs/hosty_m_y.jsonl" in desk.files_on_branch()
    assert all("hunter2" not in desk.on_branch(path) for path in desk.files_on_branch())
    assert '"x"' in desk.on_branch("oaievalset/m.s.progress.txt")


def test_of_an_attempt_with_a_secret_only_the_line_stays_here(desk: Desk) -> None:
    """Leaving out all attempts would lose what other evals have done."""
    desk.succeed("x")
    with desk.layout.attempts.open("a") as file:
        file.write('{"reason": "hunter2-hunter2"}\n')
    desk.succeed("y")
    with desk.snapshots(environment={"MY_KEY": "hunter2-hunter2"}) as (snapshots, warnings):
        snapshots.take()
    attempts = desk.on_branch("oaievalset/m.s.attempts.jsonl").splitlines()
    assert len(attempts) == 2
    (warning,) = warnings
    assert "oaievalset/m.s.attempts.jsonl, line 2" in warning


def test_a_half_written_line_waits_for_its_end(desk: Desk) -> None:
    """What a live run is writing is no line yet."""
    desk.succeed("x")
    with desk.layout.progress.open("a") as file:
        file.write('["oaieval", "dum')
    with desk.snapshots() as (snapshots, _):
        snapshots.take()
    assert desk.on_branch("oaievalset/m.s.progress.txt") == LINE.format("x").rstrip()

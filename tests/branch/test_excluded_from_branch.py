import pytest

from runner.records.progress import AttemptsFile
from runner.report.markdown import BranchPage
from tests.branch.desk import BRANCH, Desk, git
from tests.outcomes import job, success

HELD = "hunter2-hunter2"
SET = {"MY_KEY": HELD}
ATTEMPTS = "oaievalset/m.s.attempts.jsonl"


def everything(desk: Desk) -> str:
    """All that a push would publish: messages, names and contents of every snapshot."""
    history = git(desk.clone, "log", "--patch", "--text", "--format=%B", BRANCH)
    return "\n".join([history, *desk.files_on_branch()])


def test_what_was_left_out_once_stays_out(desk: Desk) -> None:
    """Also if the next snapshot is taken where the variable is not set."""
    desk.succeed("x", log=b'{"key": "hunter2-hunter2"}\n')
    with desk.layout.attempts.open("a") as file:
        file.write('{"reason": "hunter2-hunter2"}\n')
    with desk.snapshots(environment=SET) as (snapshots, _):
        snapshots.take()
    desk.succeed("y")
    with desk.snapshots() as (snapshots, warnings):
        assert snapshots.take()
        assert not snapshots.take()
    assert warnings == []
    assert "evallogs/hosty_m_y.jsonl" in desk.files_on_branch()
    assert HELD not in everything(desk)


def test_a_copy_of_what_was_left_out_stays_out(desk: Desk) -> None:
    """A log under another name, and records that were set aside."""
    log = b'{"key": "hunter2-hunter2"}\n'
    desk.succeed("x", log=log)
    with desk.layout.attempts.open("a") as file:
        file.write('{"reason": "hunter2-hunter2"}\n')
    with desk.snapshots(environment=SET) as (snapshots, _):
        snapshots.take()
    aside = desk.layout.attempts.with_name("m.s.attempts.jsonl.20261121T031340.123456Z")
    desk.layout.attempts.rename(aside)
    desk.succeed("y", log=log)
    with desk.snapshots() as (snapshots, warnings):
        assert snapshots.take()
    (warning,) = warnings
    assert f"{aside.name} is left out" in warning
    assert HELD not in everything(desk)


def test_what_was_too_large_is_stored_when_more_may_be(desk: Desk) -> None:
    """The limit is an option, no secret."""
    desk.succeed("x", log=bytes(range(256)) * 40)
    with desk.snapshots(max_file=10) as (snapshots, _):
        snapshots.take()
    with desk.snapshots() as (snapshots, _):
        assert snapshots.take()
    assert "evallogs/hostx_m_x.jsonl" in desk.files_on_branch()


@pytest.mark.parametrize(
    "name", ["m.s.run.json", "m.s.attempts.jsonl.20261121T031340.123456Z", "m.s.run.json.old"]
)
def test_every_record_is_searched(desk: Desk, name: str) -> None:
    """Those that are stored whole are left out whole, which is said once."""
    desk.succeed("x")
    (desk.layout.attempts.parent / name).write_text(
        f'{{"run": "r", "model": "m",\n"commands": [["oaieval", "m", "{HELD}"]]}}\n'
    )
    with desk.snapshots(environment=SET) as (snapshots, warnings):
        assert snapshots.take()
        assert not snapshots.take()
    (warning,) = warnings
    assert f"oaievalset/{name} is left out of the snapshots: line 2 holds" in warning
    assert HELD not in everything(desk)


def test_a_plan_with_a_secret_is_left_out_until_it_has_none(desk: Desk) -> None:
    """The next run's file may go to the branch."""
    desk.succeed("x")
    desk.plan(HELD)
    with desk.snapshots(environment=SET) as (snapshots, _):
        snapshots.take()
        desk.plan("x")
        snapshots.take()
    assert '"x"' in desk.on_branch("oaievalset/m.s.run.json")
    assert HELD not in everything(desk)


def test_a_log_with_a_secret_in_its_name_is_called_by_a_hash(desk: Desk) -> None:
    """Neither the warning nor the branch has the name; a later snapshot leaves it out, too."""
    name = f"evallogs/1_m_{HELD}.jsonl"
    desk.succeed("y")
    (desk.layout.root / name).write_text('{"event": 1}\n')
    with AttemptsFile(desk.layout.attempts) as file:
        file.add_records(success(job("x"), attempt="1", logs=(name,)))
    with desk.snapshots(environment=SET) as (snapshots, warnings):
        assert snapshots.take()
        assert not snapshots.take()
    about_log, about_line = sorted(warnings)
    assert "SHA-256" in about_log
    assert "its name holds what looks like the value of MY_KEY" in about_log
    assert f"{ATTEMPTS}, line 2" in about_line
    assert HELD not in "".join(warnings)
    with desk.snapshots() as (snapshots, warnings):
        snapshots.take()
    assert warnings == []
    assert HELD not in everything(desk)


def test_a_page_or_message_with_a_secret_is_not_stored(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last net: whatever is made of the records is searched once more."""
    desk.succeed("x")
    monkeypatch.setattr("runner.branch.snapshots.message", lambda *_, **__: f"done: {HELD}\n")
    with desk.snapshots(environment=SET) as (snapshots, warnings):
        monkeypatch.setattr(BranchPage, "of", lambda *_: f"| {HELD} |".encode())
        snapshots.take()
    assert len(warnings) == 2
    assert desk.subjects() == ["snapshot"]
    assert "This page is left out" in desk.on_branch("README.md")
    assert HELD not in everything(desk)

import os
from pathlib import Path

import pytest

from runner.model import Command
from runner.plan.pins import RunFile
from runner.plan.plan import Past, Success
from runner.records import state as state_module
from runner.records.layout import Layout
from runner.records.progress import Finished
from runner.records.state import RunState, StateReader
from tests.outcomes import failure, job, success

PLANNED, DONE = job("a").command, job("b").command
RUN = RunFile(
    run="r", model="dummy", eval_set="s", image="i", image_id="1", commands=(PLANNED,), limits={}
)
START = "oaievalset/m.{}.progress.txt"
LINE = b'["oaieval", "m", "%s"]\n'


def test_commands_are_known_from_the_plan_then_the_finished_then_the_attempts() -> None:
    """Each once, in the older format, too."""
    attempted = failure(job("d"))
    finished = Finished(commands=(DONE, PLANNED), lines=("oaieval dummy  c", " ".join(DONE)))
    state = RunState(
        model="m", eval_set="s", run=RUN, finished=finished, attempts=(attempted, attempted)
    )
    assert state.commands == [
        PLANNED,
        DONE,
        ("oaieval", "dummy", "", "c"),
        ("oaieval", "dummy", "d"),
    ]
    assert all(isinstance(command, Command) for command in state.commands)


def test_without_a_plan_what_is_on_record_is_known() -> None:
    """A set that upstream ran has none."""
    finished = Finished(commands=(DONE,))
    assert RunState(model="m", eval_set="s", finished=finished).commands == [DONE]
    assert RunState(model="m", eval_set="s").commands == []


def test_what_has_nothing_new_is_not_read_again() -> None:
    """A branch may have many eval sets, and a snapshot is of one of them."""
    reader = StateReader()
    contents = {START.format(name): LINE % b"x" for name in ("s", "t")}
    first = RunState.from_branch(contents, source="branch", reader=reader)
    contents[START.format("t")] += LINE % b"y"
    again = RunState.from_branch(contents, source="branch", reader=reader)
    assert again[0] is first[0]
    assert [len(state.finished.commands) for state in again] == [1, 2]
    contents[START.format("t")] = LINE % b"z"
    last = RunState.from_branch(contents, source="branch", reader=reader)[1]
    assert last.finished.commands == (("oaieval", "m", "z"),)


def test_a_directory_is_read_as_a_branch_is(tmp_path: Path) -> None:
    """The same files say the same, and a reader finds what was added to them."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    layout.progress.parent.mkdir()
    reader = StateReader()
    for name in (b"x", b"y"):
        with layout.progress.open("ab") as file:
            file.write(LINE % name)
        contents = {START.format("s"): layout.progress.read_bytes()}
        (state,) = RunState.from_branch(contents, source="branch")
        assert RunState.from_directory(layout) == state
        assert RunState.from_directory(layout, reader) == state


def test_a_file_that_has_not_changed_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was put in its place is another, even of the same size and time."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    layout.progress.parent.mkdir()
    layout.progress.write_bytes(LINE % b"x")
    reader = StateReader()
    read: list[Path] = []

    def read_bytes(path: Path) -> bytes:
        read.append(path)
        return path.read_bytes()

    monkeypatch.setattr(state_module, "read_bytes", read_bytes)
    first = RunState.from_directory(layout, reader)
    assert RunState.from_directory(layout, reader) is first
    assert read == [layout.progress]
    other = tmp_path / "other"
    other.write_bytes(LINE % b"y")
    os.utime(other, ns=(0, layout.progress.stat().st_mtime_ns))
    other.replace(layout.progress)
    assert RunState.from_directory(layout, reader).finished.commands[0].eval == "y"
    layout.progress.unlink()
    assert RunState.from_directory(layout, reader).finished == Finished()


def test_the_past_of_a_command_is_counted() -> None:
    """By how its attempts ended, in file order, because clocks may be wrong."""
    a, b = job("a"), job("b")
    attempts = (
        failure(a, "1", reason="first"),
        failure(b, "2", reason="only"),
        success(a, "3", host="laptop"),
        failure(a, "4", reason="last"),
    )
    won = Success(attempt="3", number=2, host="laptop", ended_at="2025-01-01T00:00:04Z")
    assert RunState(model="m", eval_set="s", attempts=attempts).past() == {
        a.command: Past(ended=3, failed=2, last="last", success=won),
        b.command: Past(ended=1, failed=1, last="only"),
    }


def test_behind_a_damaged_line_successes_on_record_are_done() -> None:
    """Where nothing is damaged, a line that is missing was taken out on purpose."""
    finished = Finished(commands=(DONE,), lines=("oaieval dummy c",))
    attempts = (success(job("a")), failure(job("d")))
    whole = RunState(model="m", eval_set="s", finished=finished, attempts=attempts)
    assert whole.done() == [DONE, "oaieval dummy c"]
    damaged = Finished(commands=(DONE,), lines=("oaieval dummy c",), damaged=("line 3",))
    state = RunState(model="m", eval_set="s", finished=damaged, attempts=attempts)
    assert state.done() == [DONE, "oaieval dummy c", PLANNED]

from pathlib import Path

import msgspec
import pytest

from runner.branch.restore import add_lines, is_safe, sync
from runner.errors import EnvironmentFault
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile, read_attempts, read_progress
from runner.records.state import RunState, StateReader
from tests.outcomes import failure, job, success

A, B = job("a"), job("b")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="dummy", eval_set="s")


def add(layout: Layout, *, progress_lines: bytes, attempts_lines: bytes) -> int:
    """Add another host's lines."""
    files = {"s.progress.txt": progress_lines, "s.attempts.jsonl": attempts_lines}
    theirs = StateReader().of_branch("s", files, "")
    return add_lines(layout, theirs, attempts_lines, here=RunState.from_directory(layout))


def attempt(name: str) -> bytes:
    """A line of another host's attempts file."""
    return msgspec.json.encode(success(A, name)) + b"\n"


@pytest.mark.parametrize("name", ["evallogs/a.jsonl", "evallogs/r_org/m_a.jsonl", "evallogs/a b"])
def test_a_path_among_the_logs_is_safe(name: str) -> None:
    """In whatever folder below it."""
    assert is_safe(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "evallogs",
        "evallogs/",
        "oaievalset/m.s.progress.txt",
        "/evallogs/a",
        "evallogs/../a",
        "evallogs/a/../../b",
        "evallogs//a",
        "evallogs/./a",
        "evallogs/a/",
        "evallogs/\x1b[2J",
        "evallogs/a\nb",
    ],
)
def test_a_path_that_leads_elsewhere_or_cannot_be_shown_is_not_safe(name: str) -> None:
    """It may come from a branch that anybody wrote to."""
    assert not is_safe(name)


def test_lines_that_are_new_are_added(layout: Layout) -> None:
    """Attempts by their id, finished commands by what they are; ours stay before them."""
    with AttemptsFile(layout.attempts) as file:
        file.add_records(failure(A, "1"))
    with ProgressFile(layout.progress) as file:
        file.add_commands(A.command)
    lines = attempt("1") + b"no JSON\n" + attempt("2") + b"\n" + attempt("3")
    finished = b'["oaieval","dummy","a.dev.v0"]\n["oaieval", "dummy", "b"]\nold m c\n["torn'
    own = layout.attempts.read_bytes()
    assert add(layout, progress_lines=finished, attempts_lines=lines) == 3
    assert layout.attempts.read_bytes() == own + attempt("2") + attempt("3")
    found = read_progress(layout.progress)
    assert found.commands == (A.command, ("oaieval", "dummy", "a.dev.v0"), B.command)
    assert found.lines == ("old m c",)
    assert layout.progress.read_bytes().endswith(b'["oaieval", "dummy", "b"]\nold m c\n')


def test_what_is_known_is_not_added_again(layout: Layout) -> None:
    """Nor is a file made or touched for nothing."""
    assert add(layout, progress_lines=b"", attempts_lines=b"") == 0
    assert not layout.progress.parent.exists()
    lines, finished = attempt("1"), b'["oaieval", "dummy", "b"]\nold m c\n'
    assert add(layout, progress_lines=finished, attempts_lines=lines) == 2
    before = layout.progress.read_bytes(), layout.attempts.read_bytes()
    assert add(layout, progress_lines=finished, attempts_lines=lines) == 0
    assert (layout.progress.read_bytes(), layout.attempts.read_bytes()) == before


def test_fields_of_a_later_version_are_kept(layout: Layout) -> None:
    """A newer runner wrote them, and may read them again."""
    line = attempt("1").replace(b'"version":1', b'"version":2,"colour":"gr\xc3\xbcn"')
    add(layout, progress_lines=b"", attempts_lines=line)
    assert layout.attempts.read_bytes() == line
    assert [record.id for record in read_attempts(layout.attempts).records] == ["1"]


def test_a_folder_of_logs_that_is_gone_is_named(tmp_path: Path) -> None:
    """What was placed there is not known to survive."""
    sync([tmp_path, tmp_path])
    with pytest.raises(EnvironmentFault, match=r"cannot write .*none: No such file"):
        sync([tmp_path, tmp_path / "none"])

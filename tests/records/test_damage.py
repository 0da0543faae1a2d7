"""Whatever is done to the files of lines: what was not touched is read, and no byte is lost."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Command, Result
from runner.records.progress import (
    AttemptsFile,
    LineFile,
    ProgressFile,
    parse_attempts,
    parse_progress,
    read_attempts,
    read_progress,
)
from tests.outcomes import failure, job, success

COMMANDS = [job(f"eval-{number}.dev.v0", "\N{SNOWMAN}").command for number in range(5)]
NEW = Command(("oaieval", "dummy", "new"))
BOM = b"\xef\xbb\xbf"
LINES = [json.dumps(command).encode() for command in COMMANDS]
WHOLE = b"".join(line + b"\n" for line in LINES)

RECORDS = [success(job(f"eval-{n}"), str(n), final_report={"x": [1]}) for n in range(4)]
NEW_RECORD = failure(job("new"), "new")

damages = st.lists(
    st.tuples(
        st.sampled_from(["cut", "zero", "change", "insert", "double"]),
        st.floats(0, 1),
        st.integers(1, 60),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


def done(content: bytes, found: list[tuple[str, float, int, bytes]]) -> bytes:
    """What is left of a content after these damages."""
    for kind, where, length, new in found:
        at = int(where * len(content))
        match kind:
            case "cut":
                content = content[:at]
            case "zero":
                end = min(len(content), at + length)
                content = content[:at] + bytes(end - at) + content[end:]
            case "change":
                content = content[:at] + new + content[at + len(new) :]
            case "insert":
                content = content[:at] + new + content[at:]
            case _:
                content = content[:at] + content[max(0, at - length) :]
    return content


def untouched(content: bytes) -> set[tuple[str, ...]]:
    """Commands whose line stands there whole."""
    lines = content.split(b"\n")
    return {command for command, line in zip(COMMANDS, LINES, strict=True) if line in lines}


def everything(path: Path) -> bytes:
    """The bytes of a file and of what was put aside, in any order that a file is put together."""
    torn = path.with_name(f"{path.name}.torn")
    return path.read_bytes() + (torn.read_bytes() if torn.exists() else b"")


@given(damage=damages)
def test_untouched_lines_of_a_progress_file_count(
    folder: Path, damage: list[tuple[str, float, int, bytes]]
) -> None:
    """Before and after the next success, which stands on a line of its own; no byte goes."""
    path = folder / "any.progress.txt"
    torn = path.with_name(f"{path.name}.torn")
    torn.unlink(missing_ok=True)
    content = done(WHOLE, damage)
    path.write_bytes(content)
    expected = untouched(content)
    assert expected <= set(read_progress(path).commands)
    assert path.read_bytes() == content
    with ProgressFile(path) as file:
        file.add_commands(NEW)
    found = read_progress(path)
    assert expected | {NEW} <= set(found.commands)
    assert path.read_bytes().endswith(b"\n" + json.dumps(NEW).encode() + b"\n") or not expected
    left = path.read_bytes().removesuffix(json.dumps(NEW).encode() + b"\n")
    if torn.exists():
        assert left + torn.read_bytes().removesuffix(b"\n") == content
    else:
        assert left in {content, content + b"\n"}


@given(damage=damages)
def test_nothing_that_was_not_finished_counts_after_a_cut(
    damage: list[tuple[str, float, int, bytes]],
) -> None:
    """Pieces of two lines never make a third: only cuts and zero bytes, as crashes leave them."""
    crash = [each for each in damage if each[0] in {"cut", "zero"}]
    found = parse_progress(done(WHOLE, crash), "p")
    assert set(found.commands) <= set(COMMANDS)
    assert not {" ".join(command) for command in COMMANDS}.intersection(found.lines)


@given(damage=damages)
def test_untouched_records_count(folder: Path, damage: list[tuple[str, float, int, bytes]]) -> None:
    """Those of an attempts file likewise, and the next record is added and found."""
    path = folder / "any.attempts.jsonl"
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.torn").unlink(missing_ok=True)
    with AttemptsFile(path) as file:
        file.add_records(*RECORDS)
    whole = path.read_bytes().split(b"\n")
    content = done(path.read_bytes(), damage)
    path.write_bytes(content)
    expected = [
        record for record, line in zip(RECORDS, whole, strict=False) if line in content.split(b"\n")
    ]
    assert all(record in read_attempts(path).records for record in expected)
    with AttemptsFile(path) as file:
        file.add_records(NEW_RECORD)
    found = read_attempts(path).records
    assert all(record in found for record in [*expected, NEW_RECORD])


@pytest.mark.parametrize(
    "content",
    [
        WHOLE + bytes(4096),
        WHOLE + bytes(4096) + b"\n",
        bytes(3) + WHOLE,
        LINES[0] + b"\n" + bytes(4096) + LINES[1] + b"\n" + b"\n".join(LINES[2:]),
        LINES[0] + bytes(7) + b"\n" + b"\n".join(LINES[1:]) + bytes(2),
        BOM + LINES[0] + b"\n" + BOM + b"\n".join(LINES[1:]) + b"\n",
        BOM + LINES[0] + BOM + b"\n".join(LINES[1:]) + b"\n",
        b"".join(LINES) + b"\n",
        b"\r".join(LINES),
        b"\r\n".join(LINES),
        WHOLE * 3,
        WHOLE + b'["x' * 3_000_000 + b"\n",
        WHOLE + b"[" * 10_000_000 + b"\n",
    ],
    ids=[
        *("zero-tail", "zero-line", "zero-start", "zero-page", "zero-in-line"),
        *("bom-each", "bom-between", "glued", "cr", "crlf"),
        *("tripled", "long-line", "deep-line"),
    ],
)
def test_what_happens_to_files_costs_no_line(tmp_path: Path, content: bytes) -> None:
    """Power losses, editors and other programs; reading changes nothing, and adding continues."""
    path = tmp_path / "m.s.progress.txt"
    path.write_bytes(content)
    assert read_progress(path).commands == tuple(COMMANDS)
    assert path.read_bytes() == content
    with ProgressFile(path) as file:
        file.add_commands(NEW)
    assert read_progress(path).commands == (*COMMANDS, NEW)
    assert path.read_bytes().endswith(b"\n" + json.dumps(NEW).encode() + b"\n")


def test_the_halves_of_a_lost_page_make_no_line() -> None:
    """What zero bytes have taken the middle of is damaged, and named."""
    content = LINES[0][:20] + bytes(40) + LINES[1][20:] + b"\n" + LINES[2] + b"\n"
    found = parse_progress(content, "p")
    assert found.commands == (COMMANDS[2],)
    assert found.damaged[0].startswith("p: line 1 cannot be read")


def test_a_line_of_nothing_but_zero_bytes_is_named() -> None:
    """Something may have been there."""
    found = parse_progress(LINES[0] + b"\n" + bytes(9) + b"\n", "p")
    assert found.damaged[0].startswith("p: line 2 cannot be read")


def test_a_torn_end_is_kept_as_it_was(tmp_path: Path) -> None:
    """Byte for byte, though it be no text."""
    path = tmp_path / "m.s.progress.txt"
    tail = hashlib.shake_256(b"any").digest(500).replace(b"\n", b"") + b"\0\xff"
    path.write_bytes(WHOLE + b"[" + tail)
    LineFile(path).close()
    assert path.read_bytes() == WHOLE
    assert path.with_name(f"{path.name}.torn").read_bytes() == b"[" + tail + b"\n"


def test_a_record_is_counted_once(tmp_path: Path) -> None:
    """A doubled line is one attempt; another record of the same attempt is another."""
    path = tmp_path / "m.s.attempts.jsonl"
    with AttemptsFile(path) as file:
        file.add_records(RECORDS[0], RECORDS[0], RECORDS[1], RECORDS[0])
    assert read_attempts(path).records == (RECORDS[0], RECORDS[1])


NEWER = {
    "version": 7,
    "attempt": "n",
    "command": list(COMMANDS[0]),
    "eval": "e",
    "result": "success",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"ended_at": "2030-01-01T00:00:00Z", "colour": "green"},
        {"duration": {"seconds": 1}, "logs": "none", "ended_at": "2030-01-01T00:00:00Z"},
    ],
)
def test_a_success_of_a_newer_evalset_counts(changes: dict[str, object]) -> None:
    """As far as it is understood; the line is named, and it is not touched."""
    content = json.dumps(NEWER | changes).encode() + b"\n"
    found = parse_attempts(content, "p")
    (record,) = found.records
    assert (record.version, record.command, record.result) == (7, COMMANDS[0], Result.SUCCESS)
    (message,) = found.damaged
    assert message.startswith("p: written by a newer evalset: line 1;")


@pytest.mark.parametrize("changes", [{"result": "splendid"}, {"command": "all"}, {"version": 1}])
def test_what_is_not_understood_of_a_newer_one_is_named(changes: dict[str, object]) -> None:
    """It counts for nothing, whatever else it says."""
    found = parse_attempts(json.dumps(NEWER | {"duration": []} | changes).encode() + b"\n", "p")
    assert found.records == ()
    assert found.damaged == ("p: line 1 cannot be read and is left as it is",)

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import EnvironmentFault
from runner.model import Command
from runner.records.progress import Finished, ProgressFile, read_progress, rewrite_progress
from tests.privileges import python_bound_by_permissions, python_on_small_disk

FIRST = Command(("oaieval", "dummy", "a.dev.v0"))
SECOND = Command(("oaieval", "dummy", "b.dev.v0", "--max_samples", "5"))
BOM = b"\xef\xbb\xbf"

words = st.text(max_size=12)
commands = st.lists(st.tuples(st.just("oaieval"), words, words).map(Command), max_size=6)


def line(command: tuple[str, ...]) -> bytes:
    """The line that upstream writes for a command."""
    return f"{json.dumps(list(command))}\n".encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "oaievalset" / "dummy.test.progress.txt"


@pytest.fixture
def written(path: Path) -> Path:
    """A progress file with two finished commands."""
    path.parent.mkdir()
    path.write_bytes(line(FIRST) + line(SECOND))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("progress")


def add(path: Path, *added: Command) -> None:
    with ProgressFile(path) as file:
        file.add_commands(*added)


def test_a_file_that_does_not_exist_says_that_nothing_is_finished(path: Path) -> None:
    """Reading neither fails nor creates anything."""
    assert read_progress(path) == Finished()
    assert not path.parent.exists()


@given(commands=commands)
@settings(max_examples=50)
def test_the_file_is_upstreams_byte_for_byte(folder: Path, commands: list[Command]) -> None:
    """Each command is one line of what Python's `json.dumps` makes of the list."""
    path = folder / "bytes.progress.txt"
    path.unlink(missing_ok=True)
    add(path, *commands)
    assert path.read_bytes() == b"".join(map(line, commands))
    assert read_progress(path) == Finished(commands=tuple(dict.fromkeys(commands)))


@given(commands=commands, cut=st.integers(min_value=0))
def test_a_file_cut_anywhere_keeps_every_whole_line(
    folder: Path, commands: list[Command], cut: int
) -> None:
    """A crash in the middle of a write costs at most the line that was being written."""
    content = b"".join(map(line, commands))
    cut %= len(content) + 1
    path = folder / "cut.progress.txt"
    path.write_bytes(content[:cut])
    end = 0
    whole = []
    for command in commands:
        end += len(line(command))
        if cut >= end - 1:  # all but the newline
            whole.append(command)
    assert read_progress(path) == Finished(commands=tuple(dict.fromkeys(whole)))
    assert path.read_bytes() == content[:cut]


@given(commands=commands, cut=st.integers(min_value=0))
@settings(max_examples=40)
def test_a_line_added_to_a_cut_file_is_a_line_of_its_own(
    folder: Path, commands: list[Command], cut: int
) -> None:
    """What is added after a crash can be read, and so can every whole line before it."""
    content = b"".join(map(line, commands))
    cut %= len(content) + 1
    path = folder / "added.progress.txt"
    path.write_bytes(content[:cut])
    before = read_progress(path).commands
    add(path, FIRST)
    assert read_progress(path) == Finished(commands=tuple(dict.fromkeys((*before, FIRST))))
    assert path.read_bytes().endswith(b"\n" + line(FIRST)) or path.read_bytes() == line(FIRST)


def test_a_torn_tail_is_put_aside(written: Path) -> None:
    """The next append moves what was cut off into a file next to it, and loses nothing."""
    written.write_bytes(line(FIRST) + line(SECOND)[:-9])
    add(written, Command(("oaieval", "dummy", "c")))
    assert written.read_bytes() == line(FIRST) + line(("oaieval", "dummy", "c"))
    torn = written.with_name(f"{written.name}.torn")
    assert torn.read_bytes() == line(SECOND)[:-9] + b"\n"


def test_tails_that_are_torn_one_after_the_other_are_all_kept(written: Path) -> None:
    """A second crash does not overwrite what the first one left."""
    for tail in (b'["oaieval", "du', b'["oaie'):
        with written.open("ab") as file:
            file.write(tail)
        add(written, FIRST)
    torn = written.with_name(f"{written.name}.torn")
    assert torn.read_bytes() == b'["oaieval", "du\n["oaie\n'


@pytest.mark.parametrize("before", [b"", b"\n", line(FIRST), line(FIRST) + b"\n"])
@pytest.mark.parametrize("length", [2, 65534, 65535, 65536, 65537, 131072])
def test_a_torn_tail_of_any_length_is_put_aside_alone(
    written: Path, before: bytes, length: int
) -> None:
    """A file is looked through from its end, a piece at a time."""
    tail = b"[" + b"1" * (length - 1)
    written.write_bytes(before + tail)
    add(written, SECOND)
    assert written.read_bytes() == before + line(SECOND)
    assert written.with_name(f"{written.name}.torn").read_bytes() == tail + b"\n"


@pytest.mark.parametrize(("last", "kept"), [(b"oaieval m a", True), (b"oaieval\0m", False)])
def test_a_plain_last_line_counts_unless_zero_bytes_are_in_it(
    written: Path, last: bytes, *, kept: bool
) -> None:
    """Older files have plain lines, and a power loss may leave zero bytes."""
    written.write_bytes(line(FIRST) + last)
    add(written, SECOND)
    expected = last + b"\n" if kept else b""
    assert written.read_bytes() == line(FIRST) + expected + line(SECOND)


def test_a_complete_last_line_without_newline_is_kept(written: Path) -> None:
    """An editor that leaves the last newline out does no harm."""
    written.write_bytes(line(FIRST) + line(SECOND).rstrip())
    assert read_progress(written).commands == (FIRST, SECOND)
    add(written, Command(("oaieval", "dummy", "c")))
    assert written.read_bytes() == line(FIRST) + line(SECOND) + line(("oaieval", "dummy", "c"))
    assert not written.with_name(f"{written.name}.torn").exists()


def test_a_last_line_nested_deeply_is_torn_like_any_other(written: Path) -> None:
    """Garbage that no JSON reader can read does not stop the runner."""
    written.write_bytes(line(FIRST) + b"[" * 100_000)
    assert read_progress(written).commands == (FIRST,)
    add(written, SECOND)
    assert written.read_bytes() == line(FIRST) + line(SECOND)


@pytest.mark.parametrize(
    "content",
    [
        line(FIRST) + line(SECOND) + line(FIRST),
        line(FIRST).replace(b"\n", b"\r\n") + line(SECOND).replace(b"\n", b"\r\n"),
        BOM + line(FIRST) + line(SECOND),
        b"\n" + line(FIRST) + b"\n  \n" + line(SECOND) + b"\n",
        b"  " + line(FIRST) + line(SECOND).replace(b", ", b","),
    ],
    ids=["doubled", "crlf", "bom", "empty-lines", "other-spacing"],
)
def test_what_editors_and_git_do_to_a_file_is_understood(written: Path, content: bytes) -> None:
    """Doubled lines, other line ends, a byte order mark and empty lines change nothing."""
    written.write_bytes(content)
    assert read_progress(written) == Finished(commands=(FIRST, SECOND))


def test_plain_lines_of_old_files_are_read(written: Path) -> None:
    """A line that is not JSON is a command joined by single spaces."""
    written.write_bytes(b"oaieval dummy a.dev.v0\n" + line(SECOND) + b"oaieval dummy a.dev.v0\n")
    assert read_progress(written) == Finished(commands=(SECOND,), lines=("oaieval dummy a.dev.v0",))


@pytest.mark.parametrize(
    "damage",
    [
        b'["oaieval", "dum',
        b'{"a": 1}',
        b'["a", 1]',
        b'"text"',
        b"\x00\x00\x00",
        b"\xff\xfe",
        b'["\xff"]',
    ],
)
def test_a_damaged_line_is_named_and_kept(written: Path, damage: bytes) -> None:
    """The message has file and line number; the lines around it count, and the file stays."""
    content = line(FIRST) + damage + b"\n" + line(SECOND)
    written.write_bytes(content)
    found = read_progress(written)
    assert found.commands == (FIRST, SECOND)
    (message,) = found.damaged
    assert message.startswith(f"{written}: line 2 cannot be read and is left as it is")
    add(written, Command(("oaieval", "dummy", "c")))
    assert written.read_bytes() == content + line(("oaieval", "dummy", "c"))


@given(content=st.binary(max_size=200))
def test_no_content_keeps_the_file_from_being_read(folder: Path, content: bytes) -> None:
    """Whatever the bytes are, reading ends with a value, and the file is as it was."""
    path = folder / "any.progress.txt"
    path.write_bytes(content)
    read_progress(path)
    assert path.read_bytes() == content


@given(content=st.binary(max_size=200))
@settings(max_examples=50)
def test_what_is_added_to_any_content_is_found_again(folder: Path, content: bytes) -> None:
    """However damaged a file is, an eval that is recorded now counts as finished."""
    path = folder / "append.progress.txt"
    path.write_bytes(content)
    add(path, FIRST)
    assert FIRST in read_progress(path).commands


def test_a_folder_in_the_files_place_is_named(path: Path) -> None:
    """The message says what is there and what to do about it."""
    path.mkdir(parents=True)
    for attempt in (lambda: read_progress(path), lambda: add(path, FIRST)):
        with pytest.raises(EnvironmentFault) as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert "it is a folder; move it away" in str(caught.value)


def test_a_file_in_the_folders_place_is_named(path: Path) -> None:
    """The message says what is there and what to do about it."""
    path.parent.write_text("")
    with pytest.raises(EnvironmentFault, match="a file is where a folder should be; move it away"):
        add(path, FIRST)


def test_a_file_that_cannot_be_written_is_named(written: Path) -> None:
    """The message says what to do, and the file is as it was."""
    written.chmod(0o444)
    code = """
import sys, pathlib
from runner.errors import EnvironmentFault
from runner.records.progress import ProgressFile
try:
    ProgressFile(pathlib.Path(sys.argv[1]))
except EnvironmentFault as error:
    print(error)
"""
    ended = python_bound_by_permissions(code, written)
    assert ended.stdout == (
        f"cannot write {written}: no permission; make it writable for this user, "
        "or choose another --progress-dir\n"
    ), ended.stderr
    assert written.read_bytes() == line(FIRST) + line(SECOND)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A write that does not fit is taken back whole, and the next one that fits succeeds."""
    code = """
import json, sys, pathlib
from runner.errors import EnvironmentFault
from runner.records.progress import ProgressFile, read_progress as read
path = pathlib.Path(sys.argv[1]) / "oaievalset" / "m.s.progress.txt"
with ProgressFile(path) as file:
    file.add_commands(("oaieval", "m", "first"))
    before = path.read_bytes()
    try:
        file.add_commands(*[("oaieval", "m", "x" * 1000)] * 200)
    except EnvironmentFault as error:
        message = str(error)
    same = path.read_bytes() == before
    file.add_commands(("oaieval", "m", "second"))
print(json.dumps([message, same, [command[2] for command in read(path).commands]]))
"""
    ended = python_on_small_disk(code, tmp_path)
    assert ended.returncode == 0, ended.stderr
    message, same, finished = json.loads(ended.stdout)
    assert "the disk is full; free some space and run again" in message
    assert same
    assert finished == ["first", "second"]


def test_a_rewritten_file_is_the_old_or_the_new_one(written: Path) -> None:
    """The new content replaces the old in one step, and nothing else is left behind."""
    with written.open("rb") as reader:
        rewrite_progress(written, [SECOND, FIRST])
        assert reader.read() == line(FIRST) + line(SECOND)
    assert written.read_bytes() == line(SECOND) + line(FIRST)
    assert list(written.parent.iterdir()) == [written]

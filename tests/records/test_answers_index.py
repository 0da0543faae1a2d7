"""What is known of an answers file without reading all of it, whatever became of the file."""

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from runner.model import Problem
from runner.records import answers_index
from runner.records.answers import (
    Answer,
    AnswersFile,
    AnswersLine,
    ChangedError,
    Given,
    Request,
    Returned,
    Stopped,
    damage,
)
from runner.records.answers_index import Index, path_of_index, read_index

KEYS = ("k", "kk", "l")
ATTEMPTS = ("a", "b", "c")

FIRST: list[AnswersLine] = [
    Request(key="k", route="openai", method="POST", path="/v1/chat/completions"),
    Answer(id="1", key="k", attempt="a", sample="s.1"),
    Answer(id="2", key="k", attempt="a", status=404),
    Given(id="1", attempt="b"),
    Stopped(attempt="c", why=Problem.BUDGET, reason="used up"),
    Returned(id="2", attempt="a"),
]
SECOND: list[AnswersLine] = [
    Request(key="l", route="openai", method="POST", path="/v1/completions"),
    Answer(id="3", key="k", attempt="b"),
    Answer(id="4", key="l", attempt="c"),
    Returned(id="1", attempt="b"),
    Stopped(attempt="c", why=Problem.KEY, reason="later"),
    Stopped(attempt="a", why=Problem.QUOTA, reason="none left"),
]


@pytest.fixture(autouse=True)
def worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is worth an index."""
    monkeypatch.setattr(answers_index, "WORTH", 0)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that were known before, for each reading of a file."""
    found: list[int] = []
    index_of = answers_index._index

    def spy(content: object, known: Index) -> object:
        found.append(known.size)
        return index_of(content, known)  # type: ignore[arg-type] # as it is given

    monkeypatch.setattr(answers_index, "_index", spy)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers" / "e.jsonl"


def content(*lines: AnswersLine) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def write(path: Path, *lines: AnswersLine) -> None:
    with AnswersFile(path) as file:
        for line in lines:
            file.write(line)


def indexed(path: Path, *lines: AnswersLine) -> int:
    """Write lines, and an index of all; give its size in the file."""
    write(path, *lines)
    with AnswersFile(path) as file:
        return read_index(file).size


def said(path: Path, known: Index | None = None) -> object:
    """All that is to be known of a file."""
    with AnswersFile(path) as file:
        index = read_index(file, known)
        return (
            [[file.answer(kept) for kept in index.kept(key, file.line)] for key in KEYS],
            [index.describes(key, file.line) for key in KEYS],
            [index.given_to(attempt) for attempt in ATTEMPTS],
            index.stopped,
            damage("file", index.damaged, index.newer),
        )


def test_an_index_says_what_the_whole_file_says(path: Path, known: list[int]) -> None:
    """Only what was appended since is read."""
    first = indexed(path, *FIRST)
    second = indexed(path, *SECOND)
    write(path, *FIRST[3:], Answer(id="5", key="kk"))
    known.clear()
    found = said(path)
    assert known == [second]
    assert first < second
    assert found == said(path, Index())
    answers = [
        [FIRST[1], FIRST[2], SECOND[1]],
        [Answer(id="5", key="kk")],
        [SECOND[2]],
    ]
    stopped = {"c": ("budget", "used up"), "a": ("quota", "none left")}
    given = [{"1"}, {"1", "3"}, {"4"}]
    assert found == (answers, [True, False, True], given, stopped, [])


def test_an_index_that_covers_all_is_all_that_is_read(path: Path, known: list[int]) -> None:
    """As long as nobody has touched the file."""
    size = indexed(path, *FIRST)
    known.clear()
    with AnswersFile(path) as file:
        assert read_index(file).size == size
    assert known == [size] == [path.stat().st_size]


def in_place(path: Path, new: bytes) -> None:
    """Write a file anew, as `cp` does, and not in the moment of the last time."""
    before = path.stat()
    path.write_bytes(new)
    assert path.stat().st_ino == before.st_ino
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def copy(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


def cut(path: Path) -> None:
    in_place(path, content(*FIRST[:-1]))


def touch(path: Path) -> None:
    in_place(path, path.read_bytes())


def change_the_last(path: Path) -> None:
    """And nothing else, not even its times."""
    before = path.stat()
    path.write_bytes(content(*FIRST[:-1], Returned(id="1", attempt="a")))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def merge(path: Path) -> None:
    in_place(path, content(*SECOND, *FIRST))


def lose(path: Path) -> None:
    path_of_index(path).unlink()


def spoil(place: int) -> Callable[[Path], None]:
    """Change a byte of an index."""

    def change(path: Path) -> None:
        index = path_of_index(path)
        found = bytearray(index.read_bytes())
        found[place] ^= 1
        index.write_bytes(found)

    return change


def shorten(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path_of_index(path), size)


def misunderstand(path: Path) -> None:
    """Write an index of another form, whose checksum is right."""
    rest = msgspec.msgpack.encode({"device": "this one"})
    first = answers_index._FIRST.pack(answers_index._MAGIC, zlib.crc32(rest), len(rest), 0)
    path_of_index(path).write_bytes(first + rest)


def put_a_folder(path: Path) -> None:
    lose(path)
    path_of_index(path).mkdir()


@pytest.mark.parametrize(
    "change",
    [
        copy,
        cut,
        touch,
        change_the_last,
        merge,
        lose,
        *map(spoil, (0, 14, 17, 20, 40, -40, -1)),
        *map(shorten, (0, 9, 36, 60)),
        misunderstand,
        put_a_folder,
    ],
)
def test_whatever_is_doubtful_lets_all_of_the_file_be_read(
    path: Path, known: list[int], change: Callable[[Path], None]
) -> None:
    """A file that is not the same, and an index that is not whole."""
    indexed(path, *FIRST)
    change(path)
    known.clear()
    found = said(path)
    assert known == [0]
    assert found == said(path, Index())


def test_a_file_that_was_changed_and_appended_to_is_read_whole(
    path: Path, known: list[int]
) -> None:
    """Its last line of before is not in its place."""
    indexed(path, *FIRST)
    in_place(path, content(*SECOND, *FIRST, *SECOND))
    known.clear()
    said(path)
    assert known == [0]


def test_an_answer_that_stands_twice_is_one(path: Path, known: list[int]) -> None:
    """Also if one of the lines is in the index; nobody was given it by the second."""
    size = indexed(path, *FIRST)
    write(path, FIRST[2])
    known.clear()
    found = said(path)
    assert known == [size, 0]
    assert found == said(path, Index())
    assert found == ([FIRST[1:3], [], []], [True, False, False], [{"1"}, {"1"}, set()], *ends())


def ends() -> tuple[object, object]:
    """The rest of what is said."""
    return {"c": ("budget", "used up")}, []


def test_damaged_lines_keep_their_numbers(path: Path, known: list[int]) -> None:
    """Those that the index covers, and those behind; also what a newer version wrote."""
    newer = b'{"kind":"sold","version":2}\n'
    path.parent.mkdir()
    path.write_bytes(b"{\n" + content(FIRST[0]) + newer)
    size = indexed(path, FIRST[1])
    with path.open("ab") as file:
        file.write(b"}\n" + newer)
    known.clear()
    with AnswersFile(path) as lines:
        index = read_index(lines)
    assert known == [size]
    messages = damage("file", index.damaged, index.newer)
    assert [message.partition(": ")[2].partition(" is left")[0] for message in messages] == [
        "line 1 cannot be read and",
        "line 5 cannot be read and",
        "written by a newer evalset: line 3, 6; what this one understands of it counts, and it",
    ]


def test_a_file_that_was_moved_keeps_its_index(path: Path, known: list[int]) -> None:
    """`evalset reset` moves its folder, and people move it back."""
    size = indexed(path, *FIRST)
    moved = path.parent.rename(path.parent.with_name("dated")) / path.name
    known.clear()
    with AnswersFile(moved) as file:
        read_index(file)
    assert known == [size]


def test_a_line_that_is_being_written_is_not_covered(path: Path) -> None:
    """It may become another one; a whole one counts until then."""
    size = indexed(path, *FIRST)
    with AnswersFile(path) as file:
        line = msgspec.json.encode(SECOND[1])
        for end, count in ((-1, 0), (len(line), 1)):
            os.truncate(path, size)
            with path.open("ab") as other:
                other.write(line[:end])
            index = read_index(file)
            assert index.size == size
            assert len(index.kept("k", file.line)) == 2 + count
        with path.open("ab") as other:
            other.write(b"\n")
        assert len(read_index(file, index).kept("k", file.line)) == 3


def test_keys_that_begin_alike_are_told_apart(path: Path) -> None:
    """An index has only their beginnings."""
    one, other = "k" * 40, "k" * 39 + "l"
    indexed(path, *(Answer(id=key[-1], key=key) for key in (one, other)))
    with AnswersFile(path) as file:
        index = read_index(file)
        assert [kept.key for kept in index.kept(one, file.line)] == [one]
        assert index.kept("k" * 30, file.line) == []
        assert not index.describes(one, file.line)


@pytest.mark.parametrize(
    "other",
    [
        Answer(id="1", key="j", attempt="a", sample="s.1"),
        Returned(id="1", attempt="k"),
        Request(key="k", route="", method="", path=""),
        None,
    ],
    ids=["key", "kind", "request", "none"],
)
def test_a_line_that_is_not_what_it_was_is_noticed(path: Path, other: AnswersLine | None) -> None:
    """The index of an earlier state says where it was."""
    write(path, *FIRST)
    with AnswersFile(path) as file:
        index = read_index(file)
        (one, _) = index.kept("k", file.line)
        start = one.start
        new = b"" if other is None else msgspec.json.encode(other)
        whole = bytearray(path.read_bytes())
        whole[start : start + one.size] = new.ljust(one.size)
        path.write_bytes(whole)
        with pytest.raises(ChangedError):
            index.kept("k", file.line)
        with pytest.raises(ChangedError):
            file.answer(one)


def test_a_small_file_gets_no_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer to look at one than to read the file."""
    monkeypatch.setattr(answers_index, "WORTH", 10_000)
    indexed(path, *FIRST)
    assert not path_of_index(path).exists()
    indexed(path, Answer(id="5", key="k", body="x" * 10_000))
    before = path_of_index(path).read_bytes()
    indexed(path, *SECOND)
    assert path_of_index(path).read_bytes() == before
    indexed(path, Answer(id="6", key="k", body="x" * 10_000))
    assert path_of_index(path).read_bytes() != before


def test_an_index_that_cannot_be_saved_does_no_harm(path: Path, known: list[int]) -> None:
    """Then all is read the next time."""
    write(path, *FIRST)
    path_of_index(path).mkdir()
    with AnswersFile(path) as file:
        assert read_index(file).saved == 0
    known.clear()
    said(path)
    assert known == [0]
    assert sorted(each.name for each in path.parent.iterdir()) == [f".{path.name}.index", path.name]


def test_a_reason_that_only_a_newer_version_knows_is_read(path: Path) -> None:
    """The attempt is stopped all the same."""
    path.parent.mkdir()
    path.write_bytes(content(Stopped(attempt="a", why=Problem.KEY)).replace(b'"key"', b'"mood"'))
    with AnswersFile(path) as file:
        index = read_index(file)
    assert index.stopped == {"a": (Problem.OTHER, "")}
    assert not index.damaged

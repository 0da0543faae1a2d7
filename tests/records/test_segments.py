import gzip
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.records import snapshot
from runner.records.snapshot import DamagedError, SegmentName, grouped, is_eval, merge, pack

EVAL = "test-match.s1.simple-v0.0123456789abcdef"


def named_after(stored: bytes) -> SegmentName:
    """The name of what is stored, whatever that is."""
    return SegmentName(EVAL, 1, hashlib.sha256(stored).hexdigest()[:16])


@given(lines=st.lists(st.binary().map(lambda line: line.replace(b"\n", b"") + b"\n")))
def test_what_was_packed_is_unpacked(lines: list[bytes]) -> None:
    """Byte for byte, and the same lines have the same name each time."""
    name, stored = pack(EVAL, 7, lines)
    assert name.lines(stored) == b"".join(lines)
    assert pack(EVAL, 7, lines) == (name, stored)
    assert SegmentName.read(str(name)) == name


@pytest.mark.parametrize(
    "path",
    [
        "",
        "00000001-0123456789abcdef.jsonl.gz",
        f"{EVAL}/00000001-0123456789abcdef.jsonl",
        f"{EVAL}/1-0123456789abcdef.jsonl.gz",
        f"{EVAL}/00000001-0123456789ABCDEF.jsonl.gz",
        f"{EVAL}/00000001-0123456789abcdef.jsonl.gz\n",
        "../00000001-0123456789abcdef.jsonl.gz",
        "a b.0123456789abcdef/00000001-0123456789abcdef.jsonl.gz",
    ],
)
def test_no_other_name_is_that_of_a_segment(path: str) -> None:
    """Nobody else's file is taken for one."""
    assert SegmentName.read(path) is None


def test_segments_sort_as_their_lines_were_written() -> None:
    """Also beyond the digits that a name usually has."""
    names = [pack(EVAL, first, [b"x\n"])[0] for first in (10**8 + 1, 2, 10, 99_999_999)]
    assert [name.first for name in sorted(names)] == [2, 10, 99_999_999, 10**8 + 1]
    read = [SegmentName.read(f"answers/m.s/{name}") for name in names]
    assert read == names


@pytest.mark.parametrize("stored", [b"", b"no gzip", gzip.compress(b"line\n" * 100, mtime=0)[:-9]])
def test_a_damaged_segment_is_noticed(stored: bytes) -> None:
    """Though its name fits; an empty file is one, too."""
    name = named_after(stored)
    if stored:
        with pytest.raises(DamagedError):
            name.lines(stored)
    else:
        assert name.lines(stored) == b""


def test_what_is_stored_under_another_name_is_not_unpacked() -> None:
    """Its content was changed after it was made."""
    name, _ = pack(EVAL, 1, [b"a\n"])
    with pytest.raises(DamagedError):
        name.lines(pack(EVAL, 1, [b"b\n"])[1])


def test_a_segment_that_would_fill_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops as soon as there is more than any segment has: lines, or one large line."""
    monkeypatch.setattr(snapshot, "MOST_OF_A_SEGMENT", 100)
    monkeypatch.setattr(snapshot, "LARGEST_LINE", 1000)
    for lines in ([b"x" * 999 + b"\n"], [b"x" * 49 + b"\n"] * 2):
        name, stored = pack(EVAL, 1, lines)
        assert name.lines(stored) == b"".join(lines)
    for lines in ([b"x" * 1000 + b"\n"], [b"x" * 50 + b"\n"] * 2):
        name, stored = pack(EVAL, 1, lines)
        with pytest.raises(DamagedError):
            name.lines(stored)


@given(sizes=st.lists(st.integers(1, 20)), most=st.integers(1, 30))
def test_groups_have_all_lines_in_order_and_are_small(sizes: list[int], most: int) -> None:
    """Only a single line may be larger."""
    lines = [(number, b"x" * size) for number, size in enumerate(sizes, start=1)]
    groups = list(grouped(lines, most))
    assert [line for group in groups for line in group] == lines
    for group in groups:
        assert len(group) == 1 or sum(len(line) for _, line in group) <= most
    for one, other in itertools.pairwise(groups):
        assert sum(len(line) for _, line in [*one, other[0]]) > most


def test_an_answers_file_has_an_evals_name_and_a_key() -> None:
    """Whatever else lies in the folder is none."""
    assert is_eval(EVAL)
    assert not is_eval("notes")
    assert not is_eval(f"{EVAL}.jsonl.torn")


def test_of_two_segments_of_one_name_the_intact_one_stays() -> None:
    """Somebody may have put a longer file in its place, to lose what was paid for."""
    name, stored = pack(EVAL, 1, [b"a\n"])
    path = f"answers/m.s/{name}"
    forged = stored + b"more"
    assert merge(path, stored, forged) == merge(path, forged, stored) == stored

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.records.snapshot import FileKind, kind_of, lines_of, merge, pack

PATHS = (
    "oaievalset/m.s.progress.txt",
    "oaievalset/m.s.attempts.jsonl",
    "oaievalset/m.s.left-out.jsonl",
    "oaievalset/m.s.run.json",
    "oaievalset/m.s.progress.txt.20261121T031555.060129Z",
    "evallogs/a.jsonl",
    f"answers/m.s/{pack('x.0123456789abcdef', 1, [b'a'])[0]}",
    "README.md",
)

MARK = b"\xef\xbb\xbf"

lines = st.lists(
    st.one_of(st.binary(max_size=3), st.sampled_from([MARK, MARK + b"a", MARK * 2 + b"a"])),
    max_size=5,
).map(lambda found: b"\n".join([*found, b""]))


def run_file(run: str, **more: object) -> bytes:
    """A run's file with this id."""
    needed = {"model": "m", "eval_set": "s", "image": "i", "image_id": "1", "commands": []}
    return json.dumps({"run": run, "limits": {}, **needed, **more}).encode()


runs = st.builds(
    lambda run, generation, more: run_file(run, generation=generation, x=more),
    st.sampled_from(["261121031336A", "261121031336B", "261121031337A"]),
    st.sampled_from([0, 1, 2, 2**53, -1, 2**60, 1.5, "2", None]),
    st.integers(0, 3),
)
contents = st.one_of(
    lines,
    st.binary(max_size=8),
    runs,
    runs.map(lambda run: run + b"\n"),
    st.just(pack("x.0123456789abcdef", 1, [b"a"])[1]),
)


@pytest.mark.parametrize("path", PATHS)
@given(one=contents, other=contents)
def test_merging_is_commutative(path: str, one: bytes, other: bytes) -> None:
    """Whoever pushes first, the result is the same."""
    assert merge(path, one, other) == merge(path, other, one)


@pytest.mark.parametrize("path", PATHS)
@given(one=contents, two=contents, three=contents)
@example(one=MARK * 2 + b"a\n", two=b"a\n", three=MARK + b"\n")
def test_merging_is_associative(path: str, one: bytes, two: bytes, three: bytes) -> None:
    """In whatever order hosts meet, the result is the same."""
    assert merge(path, merge(path, one, two), three) == merge(path, one, merge(path, two, three))


@pytest.mark.parametrize("path", PATHS)
@given(one=contents, other=contents)
def test_merging_again_changes_nothing(path: str, one: bytes, other: bytes) -> None:
    """What was merged can be merged with its parts, any number of times."""
    merged = merge(path, one, other)
    assert merge(path, merged, one) == merged
    assert merge(path, merged, other) == merged
    assert merge(path, merged, merged) == merged


@given(one=lines, other=lines)
def test_no_line_is_lost_and_none_is_made_up(one: bytes, other: bytes) -> None:
    """The lines of both are there, each once."""
    merged = merge("oaievalset/m.s.progress.txt", one, other)
    found = lines_of(merged)
    assert sorted(found) == sorted({*lines_of(one), *lines_of(other)})


def test_the_order_of_time_stays_where_one_version_has_all_lines() -> None:
    """A host's own file is on the branch byte for byte as long as it is alone."""
    path = "oaievalset/m.s.attempts.jsonl"
    assert merge(path, b"c\na\nb\n", b"a\nc\n") == b"c\na\nb\n"


def test_the_newest_run_is_what_the_branch_is_pinned_to() -> None:
    """A run's id begins with its time, which counts where both knew of the same runs."""
    path = "oaievalset/m.s.run.json"
    older = run_file("261121031336ZZZZZZZZ")
    newer = run_file("261121031337AAAAAAAA")
    assert merge(path, older, newer) == newer
    assert merge(path, b"{damaged", older) == older
    behind = run_file("251121031336ZZZZZZZZ", generation=1)
    assert merge(path, newer, behind) == behind
    assert merge(path, behind, run_file("261121031337AAAAAAAA", generation=2**60)) == behind


def test_a_run_file_that_a_newer_evalset_wrote_is_not_replaced() -> None:
    """Though it is not understood here; one that is understood is compared as ever."""
    path = "oaievalset/m.s.run.json"
    ours = run_file("261121031337AAAAAAAA", generation=5)
    newer = msgspec.json.encode({"version": 9, "run": ["of another form"]})
    assert merge(path, ours, newer) == merge(path, newer, ours) == newer
    assert merge(path, b"{damaged", newer) == newer
    assert merge(path, ours, b'{"version": 1, "run": 5}') == ours


def test_fields_of_later_versions_survive_a_merge() -> None:
    """Lines are merged as they are, and not read."""
    line = msgspec.json.encode({"version": 2, "later": [1]}) + b"\n"
    assert merge("oaievalset/m.s.attempts.jsonl", line, b"x\n") == b"x\n" + line


def test_of_two_logs_of_one_name_the_longer_stays() -> None:
    """Names are unique, so one can only be the beginning of the other."""
    assert merge("evallogs/a.jsonl", b"1\n2\n", b"1\n") == b"1\n2\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("README.md", FileKind.README),
        ("oaievalset/a/b.s.progress.txt", FileKind.LINES),
        ("oaievalset/m.s.attempts.jsonl.torn", FileKind.LINES),
        ("oaievalset/m.s.data.jsonl", FileKind.LINES),
        ("oaievalset/m.s.attempts.jsonl.20261121T031555.060129Z", FileKind.WHOLE),
        ("evallogs/x.progress.txt", FileKind.WHOLE),
        ("answers/m.s/x.progress.txt", FileKind.WHOLE),
        ("oaievalset/m.s.run.json", FileKind.RUN),
    ],
)
def test_a_path_tells_what_a_file_is(path: str, kind: FileKind) -> None:
    """A log is never merged as lines, whatever its name."""
    assert kind_of(path) is kind

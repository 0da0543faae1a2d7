import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.text import harmless, harmless_parts
from tests.report.test_actions import HOSTILE, found


@given(
    content=st.text(st.sampled_from("\x1b[3;1m \r\nxé\x9b\u2603"), max_size=40),
    cuts=st.lists(st.integers(0, 80), max_size=4),
)
def test_pieces_are_shown_as_the_whole(content: str, cuts: list[int]) -> None:
    """Wherever a sign, a colour or an end of line is cut in two."""
    raw = content.encode()
    ends = sorted({0, *(min(cut, len(raw)) for cut in cuts), len(raw)})
    parts = [raw[start:end] for start, end in pairwise(ends)]
    assert "".join(harmless_parts(parts)) == harmless(content)


def test_a_piece_is_shown_at_once() -> None:
    """Somebody may be watching a progress bar, which has no end of line."""
    assert next(harmless_parts(iter([b" 3/10 [00:01"]))) == " 3/10 [00:01"


@pytest.mark.parametrize("cut", [1, 2, 5, 1000])
def test_github_finds_no_command_in_any_piece(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """However a log is read, and however long its lines are."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    long = " " * 70_000
    raw = "\n".join(["x" * 70_000, *HOSTILE, *(f"{long}{each}" for each in HOSTILE)]).encode()
    step = cut if cut > 5 else 10**6
    parts = [raw[at : at + step] for at in range(0, len(raw), step)]
    small = "\n".join(HOSTILE).encode()
    parts += [small[at : at + cut] for at in range(0, len(small), cut)]
    assert found(io.StringIO("".join(harmless_parts(parts)))) == []

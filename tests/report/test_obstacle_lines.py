import sys

import pytest

from runner.plan.obstacles import Obstacle
from runner.report.display import obstacle_lines
from tests.report.terminal import Terminal

FOUND = {
    "bluff.gpt-4": Obstacle(
        why="it asks a model of its own choice at OpenAI, and fetches an encoding for it",
        cure="set OPENAI_API_KEY, or skip it",
    ),
    "bluff.human_cli": Obstacle(
        why="it asks a person at the terminal",
        cure="run it with upstream's own `oaieval`, or skip it",
    ),
}


@pytest.mark.parametrize("columns", [60, 100])
def test_the_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """No line is for the terminal to break, which would cut words."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", Terminal())
    lines = obstacle_lines(FOUND)
    assert max(map(len, lines)) <= columns
    words = {word for line in lines for word in line.split()}
    for each in FOUND.values():
        assert set(f"{each.why}; {each.cure}".split()) <= words


def test_a_log_has_room_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns of a terminal that nobody looks at do not count."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = obstacle_lines(FOUND)
    assert 80 < max(map(len, lines)) <= 120

import io

import pytest

from runner.report.bars import LiveConsole
from runner.report.display import PlainConsole, display_for
from tests.report.terminal import Terminal


def test_a_terminal_gets_the_live_display() -> None:
    """Somebody looks at it."""
    assert isinstance(display_for(Terminal()), LiveConsole)


def test_a_pipe_gets_lines() -> None:
    """Somebody may look at it later."""
    assert isinstance(display_for(io.StringIO()), PlainConsole)


@pytest.mark.parametrize(
    ("name", "value"), [("CI", "true"), ("GITHUB_ACTIONS", "true"), ("TERM", "dumb")]
)
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """CI systems that pretend to be a terminal, and dumb ones, keep every line."""
    monkeypatch.setenv(name, value)
    assert isinstance(display_for(Terminal()), PlainConsole)

import io

from runner.report.bars import FetchDisplay
from tests.report.terminal import on_a_terminal, plain

SHOW = """
import sys
from runner.report.bars import FetchDisplay
display = FetchDisplay(sys.stdout)
display.begin(2)
display.has("a", 3 << 20)
display.has("b", 1 << 20)
display.ended("fetched  a")
display.end()
"""


def test_a_terminal_shows_a_bar_with_what_has_come() -> None:
    """The lines stay, and the bar is gone at the end."""
    shown = plain(
        on_a_terminal(SHOW, TERM="xterm-256color", COLUMNS="100", CI="", GITHUB_ACTIONS="")
    )
    assert " 1/2 4 MiB " in shown
    assert "\rfetched  a\r\n" in shown


def test_elsewhere_there_is_a_line_for_each_eval() -> None:
    """And nothing of the bar, nor what a name could do to a terminal."""
    out = io.StringIO()
    display = FetchDisplay(out)
    display.begin(2)
    display.has("a", 1)
    display.ended("fetched  a\x1b[2J")
    display.end()
    assert out.getvalue().startswith("fetched  a")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()

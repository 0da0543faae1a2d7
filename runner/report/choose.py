import os
from typing import TextIO

from runner.report.actions import on_actions
from runner.report.console import PlainConsole
from runner.report.display import Display


def display_for(out: TextIO) -> Display:
    """The live display on a terminal, lines elsewhere and on CI."""
    ci = os.environ.get("CI") or on_actions()
    if out.isatty() and not ci and os.environ.get("TERM") != "dumb":
        from runner.report.live import LiveConsole  # noqa: PLC0415 - rich takes its time

        return LiveConsole(out)
    return PlainConsole(out)

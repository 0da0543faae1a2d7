import os
import threading
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from runner.report.text import harmless, on_actions, plain_line, size


class FetchDisplay:
    """Shows how data come: a bar on a terminal, a line for each eval elsewhere.

    Args:
        out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        ci = os.environ.get("CI") or on_actions()
        self._out = out
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._bar: Progress | None = None
        if out.isatty() and not ci and os.environ.get("TERM") != "dumb":
            self._bar = Progress(
                TextColumn("[bold]evals"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[came]}"),
                TimeElapsedColumn(),
                console=Console(file=out, highlight=False),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, came="")

    def begin(self, total: int) -> None:
        """Draw the bar."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)
            self._bar.start()

    def has(self, name: str, count: int) -> None:
        """Show how many bytes have come, of all evals."""
        with self._lock:
            self._sizes[name] = count
            came = size(sum(self._sizes.values()))
        if self._bar is not None:
            self._bar.update(self._task, came=came)

    def ended(self, line: str) -> None:
        """Write the line that says what became of an eval's data, and move the bar on."""
        if self._bar is None:
            print(plain_line(line), file=self._out, flush=True)
        else:
            self._bar.console.print(Text(harmless(line)))
            self._bar.advance(self._task)

    def end(self) -> None:
        """Put the bar away."""
        if self._bar is not None:
            self._bar.stop()

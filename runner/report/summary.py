import io
from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.report.actions import inert, on_actions
from runner.report.rows import Row
from runner.report.score import main_score
from runner.report.text import duration, one_line

_STYLES = {"done": "green", "failed": "bold red", "lost": "yellow", "running": "cyan"}


def print_table(out: TextIO, rows: Sequence[Row]) -> None:
    """Print a table with one row per eval."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("eval", overflow="fold", ratio=1)
    table.add_column("state")
    table.add_column("score", justify="right")
    table.add_column("samples", justify="right")
    table.add_column("time", justify="right")
    table.add_column("tries", justify="right")
    for row in rows:
        score = main_score(row.final_report)
        name = Text(one_line(row.eval))
        if row.reason:
            name.append(f"\n{one_line(row.reason)}", style="dim")
        table.add_row(
            name,
            Text(row.state, style=_STYLES.get(row.state, "dim")),
            f"{one_line(score.name)} {score.value:.3g}" if score else "",
            str(row.samples) if row.attempts else "",
            "" if row.duration is None else duration(row.duration),
            str(row.attempts) if row.attempts else "",
        )
    if not on_actions():
        console_for(out).print(table)
        return
    # Line by line, for where a name is folded a line could begin with a command.
    drawn = io.StringIO()
    console_for(drawn).print(table)
    for line in drawn.getvalue().splitlines():
        print(inert(line), file=out)


def console_for(out: TextIO) -> Console:
    """A console that honours NO_COLOR, and is wide enough where nobody looks at a terminal."""
    console = Console(file=out, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(file=out, highlight=False, width=120, no_color=True)
    return console

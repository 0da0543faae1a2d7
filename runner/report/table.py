import io
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from runner.model import State
from runner.records.spending import Spent
from runner.records.state import EvalState, in_words
from runner.report.figures import RESULT_COLUMNS, result_cells
from runner.report.model_use import columns
from runner.report.text import inert, on_actions, one_line

# Columns where nobody looks at a terminal.
_WIDE = 120

_STYLES = {
    State.DONE: "green",
    State.FAILED: "bold red",
    State.LOST: "yellow",
    State.RUNNING: "cyan",
}


def print_table(out: TextIO, rows: Sequence[EvalState], *, hosts: bool = False) -> None:
    """Print a table with one row per eval.

    Args:
        hosts: whether to show where they ran, if that is not always the same.
    """
    hosts = hosts and len({row.host for row in rows if row.host}) > 1
    table = _table()
    table.add_column("eval")
    table.add_column("state", no_wrap=True)
    if hosts:
        table.add_column("host", overflow="fold")
    for column in RESULT_COLUMNS:
        if column == "score":  # its name is of any length: an eval's own code gives it
            table.add_column(column, justify="right", overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        notes = [one_line(note) for note in (row.arguments, row.reason) if note]
        table.add_row(
            _Name(one_line(row.eval), notes),
            Text(row.state, style=_STYLES.get(row.state, "dim")),
            *((Text(one_line(row.host)),) if hosts else ()),
            *result_cells(row, one_line),
        )
    _print(out, table)


def print_answers(out: TextIO, spent: Spent) -> None:
    """Print a table with one row per eval that has answers, and their total."""
    shown = columns(spent)
    times = Counter(one.eval for one in spent.evals)
    table = _table()
    table.add_column("eval")
    for column in shown:
        table.add_column(column, justify="right")
    for one in spent.evals:
        notes = []
        if one.command and times[one.eval] > 1:
            notes.append(one_line(in_words(one.command.arguments)))
        name = _Name(one_line(one.eval), notes)
        table.add_row(name, *(cell(one.totals) for cell in shown.values()))
    if len(spent.evals) > 1:
        table.add_section()
        totals = spent.totals
        table.add_row(Text("total", style="bold"), *(cell(totals) for cell in shown.values()))
    _print(out, table)


def drawn(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table of text that fit the terminal, for where lines are shown."""
    table = _table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = ("\n".join(map(one_line, cell.split("\n"))) for cell in row)
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    out = io.StringIO()
    _Console(file=out, highlight=False, width=_width(), no_color=True).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def _width() -> int:
    """The columns of the terminal, or what fits where nobody looks at one."""
    return shutil.get_terminal_size((_WIDE, 24)).columns if sys.stdout.isatty() else _WIDE


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")


def _print(out: TextIO, table: Table) -> None:
    if not on_actions():
        console_for(out).print(table)
        return
    # Line by line, because where a name is folded a line could begin with a command.
    drawn = io.StringIO()
    console_for(drawn).print(table)
    for line in drawn.getvalue().splitlines():
        print(inert(line), file=out)


class _Name:
    """An eval's name, broken after its punctuation where it is too long, and notes below it."""

    def __init__(self, name: str, notes: Sequence[str]) -> None:
        self._parts = re.findall(r"[^./_-]*[./_-]|[^./_-]+", name)
        self._notes = notes

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Say how wide it is at the least, and without a break."""
        notes = [Text(note).__rich_measure__(console, options) for note in self._notes]
        least = [*map(cell_len, self._parts), *(each.minimum for each in notes), 1]
        most = [cell_len("".join(self._parts)), *(each.maximum for each in notes), 1]
        return Measurement(max(least), max(most)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give its lines."""
        line = ""
        for part in self._parts:
            if line and cell_len(line + part) > options.max_width:
                yield Text(line, overflow="fold")
                line = ""
            line += part
        yield Text(line, overflow="fold")
        for note in self._notes:
            yield Text(note, style="dim", overflow="fold")


class _Console(Console):
    """A console that leaves it to the caller what to do when its reader has gone."""

    def on_broken_pipe(self) -> None:
        """Let it be known; rich itself would exit with 1, as if an eval had failed."""
        raise BrokenPipeError


def console_for(out: TextIO) -> Console:
    """A console that honours NO_COLOR, and is wide enough where nobody looks at a terminal."""
    console = _Console(file=out, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = _Console(file=out, highlight=False, width=_WIDE, no_color=True)
    return console

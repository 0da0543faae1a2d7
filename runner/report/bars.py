"""What moves on a terminal: a run's bar and its running evals, and the bar of data that come."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

import msgspec
from rich.console import Console, ConsoleRenderable, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import ControlType, Segment
from rich.table import Table
from rich.text import Text

from runner.model import Attempt, Job, Result
from runner.report.display import (
    HostsAway,
    HostsBack,
    away_line,
    back_line,
    ended_lines,
    moving,
    named_hosts,
    on_hosts,
)
from runner.report.text import duration, evals, harmless, plain_line, size, takes_pictures

# Seconds until the time left is shown; before, each eval that ends would change it a lot.
_SETTLED = 10


class _Line(msgspec.Struct):
    """A running eval: when it started, where, and its samples."""

    eval: str
    began: float
    host: str
    samples: int = 0
    of: int = 0


class _TimeLeft(ProgressColumn):
    """The time left, judged by the evals that ended in this run."""

    def render(self, task: Task) -> Text:
        """Give the text."""
        ended = task.completed - task.fields["before"]
        elapsed = task.elapsed or 0
        if not ended or elapsed < _SETTLED or task.total is None or task.finished:
            return Text("")
        left = elapsed / ended * (task.total - task.completed)
        return _cropped(f"about {duration(left)} left", "dim")


class _Picture(Live):
    """Leaves nothing of itself in a window that is made narrower.

    A terminal then breaks rows that are too long, but rich moves up by the rows that it wrote.
    """

    def __init__(self, picture: Callable[[], RenderableType], console: Console) -> None:
        super().__init__(
            get_renderable=picture, console=console, refresh_per_second=8, transient=True
        )
        self._width = console.width
        self._rows: list[int] = []

    def say(self, line: Text) -> None:
        """Print a line above, and let nobody draw the picture meanwhile: it may be smaller now."""
        with self._lock:
            self.console.print(line)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Move up by the rows that the terminal has made of ours."""
        width = self.console.width
        more = sum(-(-row // width) - 1 for row in self._rows if row) if width < self._width else 0
        lines = self.console.render_lines(self.get_renderable(), pad=False)
        self._width, self._rows = width, [Segment.get_line_length(line) for line in lines]
        erase = (ControlType.ERASE_IN_LINE, 2)
        up = Control(erase, *(((ControlType.CURSOR_UP, 1), erase) * more))
        return [up if more else Control(), *super().process_renderables(renderables)]


class LiveConsole:
    """Shows a run on a terminal: a bar for the whole, a line for each running eval."""

    wants_samples = True
    tail_lines = 5

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False)
        self._lock = threading.Lock()
        self._running: dict[str, _Line] = {}
        self._hosts: Sequence[str] = ()
        self._away: dict[str, HostsAway] = {}
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}", style="red"),
            TimeElapsedColumn(),
            _TimeLeft(),
            console=self._console,
        )
        self._failed = 0
        # None where nothing runs but what an earlier run started.
        self._task: TaskID | None = None
        self._live: _Picture | None = None

    def begin(self, *, total: int, done: int, todo: int, hosts: Sequence[str] = ()) -> None:
        """Draw the bar, unless there is nothing to run."""
        self._hosts = hosts
        if not todo:
            return  # the end says so
        if done:
            self.note(f"{done} of {evals(total)} finished before; {todo} to run{on_hosts(hosts)}")
        self._task = self._bar.add_task(
            "evals", total=total, completed=done, before=done, failed=""
        )
        self._live = _Picture(self._picture, self._console)
        self._live.start()

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self._say(text)

    def warn(self, text: str) -> None:
        """Print one yellow line above the bar."""
        self._say(f"warning: {text}", "yellow")

    def started(self, job: Job, host: str = "") -> None:
        """Add a line for a running eval."""
        with self._lock:
            self._running[job.key] = _Line(job.eval, time.monotonic(), host)

    def progressed(self, job: Job, samples: int, of: int) -> None:
        """Note the samples of a running eval."""
        with self._lock:
            if line := self._running.get(job.key):
                line.samples, line.of = samples, of

    def ended(self, outcome: Attempt, *, again: bool, tail: tuple[str, ...]) -> None:
        """Take the eval's line away; print how it ended above the bar."""
        with self._lock:
            self._running.pop(outcome.command.key, None)
        several = len(self._hosts) > 1
        line, details = ended_lines(outcome, again=again, tail=tail, tells_host=several)
        success = outcome.result is Result.SUCCESS
        style = "green" if success else "yellow" if again else "bold red"
        self._say(f"{'✓' if success else '✗'} {line}", style)
        for detail in (*details, *(f"warning: {each}" for each in outcome.warnings)):
            self._say(f"    {detail}", "dim")
        if self._task is None:
            return
        if success:
            self._bar.advance(self._task)
        elif not again:
            self._failed += 1
            self._bar.update(self._task, failed=f"{self._failed} failed")

    def away(self, absent: HostsAway) -> None:
        """Print which hosts are away, and show it until they are back."""
        self.warn(away_line(absent))
        with self._lock:
            self._away |= dict.fromkeys(absent.hosts, absent)

    def back(self, present: HostsBack) -> None:
        """Print which hosts are back."""
        with self._lock:
            for host in present.hosts:
                self._away.pop(host, None)
        self.note(back_line(present))

    def end(self) -> None:
        """Take the live part away."""
        if self._live:
            self._live.stop()

    def _say(self, text: str, style: str = "") -> None:
        line = Text(harmless(text), style=style)
        if self._live:
            self._live.say(line)
        else:
            self._console.print(line)

    def _picture(self) -> RenderableType:
        several = len(self._hosts) > 1
        table = Table.grid(padding=(0, 2))
        table.add_column(ratio=1)  # gives way to the others, because they may not wrap
        for _ in range(2 + several):
            table.add_column(justify="right", no_wrap=True)
        with self._lock:
            lines = list(self._running.values())
            away = dict(self._away)
        shown = max(3, self._console.height - 8 - bool(away))
        for line in lines[:shown]:
            samples = f"{line.samples}/{line.of} samples" if line.of else "starting"
            elapsed = duration(time.monotonic() - line.began)
            where = (Text(harmless(line.host), style="dim"),) if several else ()
            if line.host in away:
                samples = "host away"
            table.add_row(_cropped(f"  {harmless(line.eval)}", "cyan"), *where, samples, elapsed)
        if (hidden := len(lines) - shown) > 0:
            table.add_row(_cropped(f"  ... and {hidden} more running", "dim"))
        if not away:
            return Group(table, self._bar)
        return Group(table, Text(_absent(away), style="yellow", no_wrap=True), self._bar)


def _cropped(text: str, style: str) -> Text:
    """Text that stays one row, and shows where that is too narrow for it."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _absent(away: Mapping[str, HostsAway]) -> str:
    """Which hosts are away, and when the evals of the first run elsewhere."""
    line = f"  {named_hosts(list(away))} {'is' if len(away) == 1 else 'are'} away"
    first = min(away.values(), key=lambda each: each.until)
    left = first.until - time.monotonic()
    if first.evals and left > 0 and not first.all_away:
        line += f"; {moving(first)} in {left:.0f} s"
    return line


class FetchDisplay:
    """Shows how data come: a bar on a terminal, a line for each eval elsewhere.

    Args:
        out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._bar: Progress | None = None
        if takes_pictures(out):
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

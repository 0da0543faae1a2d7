import contextlib
import functools
import importlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TextIO

import msgspec

from runner.model import Attempt, Job, Result
from runner.plan.obstacles import Obstacle, grouped
from runner.report.figures import main_score
from runner.report.text import (
    command,
    duration,
    evals,
    on_actions,
    one_line,
    plain_line,
    takes_pictures,
)

# Names of evals that a row shows; the others are counted.
_SHOWN = 8

# Hosts that a line names; the others are counted.
_HOSTS = 4


class HostsAway(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts have gone away together.

    Attributes:
        why: that of the first of them.
        evals: how many run on them.
        wait: seconds for which they may be away, before these run elsewhere.
        until: when that is over, by `time.monotonic`.
        all_away: whether no host is left.
        stopping: whether nothing starts any more, so that these do not run elsewhere.
    """

    hosts: tuple[str, ...]
    why: str
    evals: int
    wait: float
    until: float
    all_away: bool
    stopping: bool = False


class HostsBack(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts that were away are back."""

    hosts: tuple[str, ...]


class Display(Protocol):
    """What shows a run to people while it runs."""

    # Whether `progressed` is worth calling.
    wants_samples: bool

    @property
    def tail_lines(self) -> int:
        """How many lines of a failed eval's output `ended` is to be given."""

    def begin(self, *, total: int, done: int, todo: int, hosts: Sequence[str] = ()) -> None:
        """The plan is made: `done` of `total` are finished, `todo` will be run on these hosts."""

    def note(self, text: str) -> None:
        """Say one line that is not an error."""

    def warn(self, text: str) -> None:
        """Say one line that deserves attention."""

    def started(self, job: Job, host: str = "") -> None:
        """A container runs, on this host."""

    def progressed(self, job: Job, samples: int, of: int) -> None:
        """A running eval has finished a number of samples."""

    def ended(self, outcome: Attempt, *, again: bool, tail: tuple[str, ...]) -> None:
        """An attempt ended and is on record; `tail` is the end of its console log."""

    def away(self, absent: HostsAway) -> None:
        """Hosts are away."""

    def back(self, present: HostsBack) -> None:
        """Hosts are back."""

    def end(self) -> None:
        """Nothing runs any more."""


class PlainConsole:
    """Shows a run as lines, for logs, pipes and CI."""

    wants_samples = False

    @property
    def tail_lines(self) -> int:
        """Few; more on Actions, where they are folded away."""
        return 50 if on_actions() else 5

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._total = 0
        self._finished = 0
        self._tells_hosts = False

    def begin(self, *, total: int, done: int, todo: int, hosts: Sequence[str] = ()) -> None:
        """Say what is finished and what will run."""
        self._total, self._finished = total, done
        self._tells_hosts = len(hosts) > 1
        if not todo:
            return  # the end says so
        done_already = f", {done} of them finished before" if done else ""
        self.note(f"{evals(total)}{done_already}; {todo} to run{on_hosts(hosts)}")

    def note(self, text: str) -> None:
        """Write one line."""
        self._print(plain_line(text))

    def warn(self, text: str) -> None:
        """Write one line that says that it is a warning."""
        self._mark("warning", text)

    def started(self, job: Job, host: str = "") -> None:
        """Write which eval was started."""
        _import_table()
        self.note(f"started  {job.eval}{f' on {host}' if self._tells_hosts else ''}")

    def progressed(self, job: Job, samples: int, of: int) -> None:
        """Lines would be too many."""

    def ended(self, outcome: Attempt, *, again: bool, tail: tuple[str, ...]) -> None:
        """Write how an eval ended, and for a failure the end of what it printed."""
        line, details = ended_lines(outcome, again=again, tail=tail, tells_host=self._tells_hosts)
        if outcome.result is Result.SUCCESS:
            self._finished += 1
            self.note(f"{line}  [{self._finished}/{self._total}]")
        elif again:
            self.note(line)
        else:
            self._mark("error", line)
        if details:
            self._fold(f"what {outcome.eval} printed last", details)
        for warning in outcome.warnings:
            self.note(f"    warning: {warning}")

    def away(self, absent: HostsAway) -> None:
        """Write which hosts are away."""
        self.warn(away_line(absent))

    def back(self, present: HostsBack) -> None:
        """Write which hosts are back."""
        self.note(back_line(present))

    def end(self) -> None:
        """There is nothing to put away."""

    def _fold(self, title: str, lines: Sequence[str]) -> None:
        if on_actions():
            self._print(command("group", one_line(title)))
        for line in lines:
            self.note(f"    {line}")
        if on_actions():
            self._print(command("endgroup", ""))

    def _mark(self, kind: str, text: str) -> None:
        if on_actions():
            self._print(command(kind, one_line(text)))
        else:
            self.note(f"{kind}: {text}")

    def _print(self, line: str) -> None:
        # A reader that has gone, as in `| head`, or a full disk stops no run.
        with contextlib.suppress(OSError):
            print(line, file=self._out, flush=True)


@functools.cache
def _import_table() -> None:
    """Import what prints the table at the end while the first eval runs, because rich is slow."""
    table = "runner.report.table"
    threading.Thread(target=importlib.import_module, args=(table,), daemon=True).start()


def ended_lines(
    outcome: Attempt, *, again: bool, tail: tuple[str, ...], tells_host: bool = False
) -> tuple[str, tuple[str, ...]]:
    """How an attempt ended: one line, and for a failure the lines that show why."""
    took = duration(outcome.duration)
    if tells_host and outcome.result is Result.LOST and outcome.started_at is None:
        took = f"on {outcome.host}"  # for how long is not known
    elif tells_host:
        took += f" on {outcome.host}"
    if outcome.result is Result.SUCCESS:
        score = main_score(outcome.final_report)
        result = f"  {score.name} {score.value:.3g}" if score else ""
        return f"finished {outcome.eval}  ({took}){result}", ()
    what = "to be retried" if again else outcome.result.value
    line = f"{what}  {outcome.eval}  ({took}): {outcome.reason}"
    where = (f"whole output: {outcome.console_log}",) if outcome.console_log else ()
    return line, (*(f"| {text}" for text in tail), *where)


def named_hosts(hosts: Sequence[str]) -> str:
    """Some hosts in words; of many, only the first are named."""
    named = list(hosts[:_HOSTS])
    if len(hosts) > len(named) + 1:
        named.append(f"{len(hosts) - len(named)} more hosts")
    else:
        named += hosts[_HOSTS:]
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def on_hosts(hosts: Sequence[str]) -> str:
    """Where evals run, to be put after a sentence; nothing where that is this machine alone."""
    return f" on {named_hosts(hosts)}" if len(hosts) > 1 else ""


def away_line(absent: HostsAway) -> str:
    """That hosts are away, and what follows."""
    one = len(absent.hosts) == 1
    line = f"{named_hosts(absent.hosts)} {'is' if one else 'are'} away ({absent.why.rstrip('.')}); "
    after = f"{duration(absent.wait)} (--engine-wait)"
    if absent.all_away:
        return f"{line}no host is left, and the run ends after {after}"
    if not absent.evals:
        return f"{line}no eval runs there"
    whose = "its" if one else "their"
    return f"{line}{whose} {moving(absent)} after {after}"


def moving(absent: HostsAway) -> str:
    """How many evals of hosts that are away run elsewhere then, or are only lost."""
    one = absent.evals == 1
    if absent.stopping:
        return f"{evals(absent.evals)} {'counts' if one else 'count'} as lost"
    return f"{evals(absent.evals)} {'runs' if one else 'run'} elsewhere"


def back_line(present: HostsBack) -> str:
    """That hosts are back."""
    verb = "is" if len(present.hosts) == 1 else "are"
    return f"{named_hosts(present.hosts)} {verb} back"


def display_for(out: TextIO) -> Display:
    """The live display on a terminal, lines elsewhere and on CI."""
    if takes_pictures(out):
        from runner.report.bars import LiveConsole  # noqa: PLC0415 - rich takes its time

        return LiveConsole(out)
    return PlainConsole(out)


def obstacle_lines(found: Mapping[str, Obstacle]) -> list[str]:
    """A table of the evals that cannot run, those with the same reason in one row, as lines."""
    if not found:
        return []
    from runner.report.table import drawn  # noqa: PLC0415 - rich takes its time, and few runs need it

    rows = []
    for obstacle, names in grouped(found).items():
        rest = len(names) - _SHOWN
        shown = "\n".join([*names[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])])
        rows.append((str(len(names)), shown, f"{obstacle.why}; {obstacle.cure}"))
    verb = "cannot run, and is" if len(found) == 1 else "cannot run, and are"
    title = f"{evals(len(found))} {verb} skipped"
    return [title, *drawn(("", "evals", "why, and what to do"), rows)]


def tell_before(
    display: Display, warnings: Iterable[str], obstacles: Mapping[str, Obstacle]
) -> None:
    """Tell what people should know before anything runs; a warning may be empty."""
    for warning in filter(None, warnings):
        display.warn(warning)
    for number, line in enumerate(obstacle_lines(obstacles)):
        (display.note if number else display.warn)(line)

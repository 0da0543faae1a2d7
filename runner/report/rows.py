import math
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from runner.model import Result
from runner.records.attempts import AttemptRecord
from runner.records.progress import Finished

STATE_OF = {Result.SUCCESS: "done", Result.FAILURE: "failed", Result.LOST: "lost"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One eval of a result table.

    Attributes:
        eval: the resolved key.
        state: `done`, `failed`, `lost`, `running` or `to do`.
        reason: why it failed, empty else.
        final_report: of the newest attempt.
        samples: in its logs.
        duration: of the newest attempt, in seconds; None when there was none.
        attempts: how many ended.
        console_log: of the newest attempt, relative to the progress directory.
        arguments: of its command, where the eval stands in the table with others, too.
    """

    eval: str
    state: str
    reason: str = ""
    final_report: dict[str, object] | None = None
    samples: int = 0
    duration: float | None = None
    attempts: int = 0
    console_log: str | None = None
    arguments: str = ""


def rows_of(
    commands: Sequence[tuple[str, ...]],
    *,
    finished: Finished,
    records: Sequence[AttemptRecord],
    running: Collection[tuple[str, ...]] = (),
) -> list[Row]:
    """A table's rows for commands, in their order, from what is on record."""
    table = told_apart(Rows().of(commands, finished=finished, records=records), commands)
    for number, (command, row) in enumerate(zip(commands, table, strict=True)):
        if command in running and row.state != "done":
            table[number] = msgspec.structs.replace(row, state="running", reason="", duration=None)
    return table


def told_apart(table: Sequence[Row], commands: Sequence[tuple[str, ...]]) -> list[Row]:
    """The rows of these commands, with their arguments where an eval has several rows."""
    times = Counter(row.eval for row in table)
    return [
        msgspec.structs.replace(row, arguments=arguments_of(command))
        if times[row.eval] > 1
        else row
        for row, command in zip(table, commands, strict=True)
    ]


def arguments_of(command: Sequence[str]) -> str:
    """What follows the eval in a command, in words."""
    return shlex.join(command[3:]) or "without arguments"


class Rows:
    """Makes the rows of one table again and again; a command with nothing new keeps its row."""

    def __init__(self) -> None:
        self._finished = Finished()
        self._records: Sequence[AttemptRecord] = ()
        self._done: set[tuple[str, ...]] = set()
        self._by_command: dict[tuple[str, ...], list[AttemptRecord]] = {}
        self._rows: dict[tuple[str, ...], Row] = {}

    def of(
        self,
        commands: Sequence[tuple[str, ...]],
        *,
        finished: Finished,
        records: Sequence[AttemptRecord],
    ) -> list[Row]:
        """The rows for commands, in their order."""
        self._take_in(finished, records)
        plain = set(finished.lines)
        for command in commands:
            if command not in self._rows:
                done = command in self._done or (bool(plain) and " ".join(command) in plain)
                self._rows[command] = _row(command, self._by_command.get(command, []), done=done)
        return [self._rows[command] for command in commands]

    def _take_in(self, finished: Finished, records: Sequence[AttemptRecord]) -> None:
        """Forget the rows of commands of which there is something new, or all."""
        before = len(self._finished.commands)
        if (
            finished.lines != self._finished.lines
            or finished.commands[:before] != self._finished.commands
            or tuple(records[: len(self._records)]) != tuple(self._records)
        ):
            before, self._records = 0, ()
            self._done.clear()
            self._by_command.clear()
            self._rows.clear()
        new = records[len(self._records) :]
        self._done.update(finished.commands[before:])
        for record in new:
            self._by_command.setdefault(record.command, []).append(record)
        for command in (*finished.commands[before:], *(record.command for record in new)):
            self._rows.pop(command, None)
        self._finished, self._records = finished, records


def _row(command: tuple[str, ...], records: Sequence[AttemptRecord], *, done: bool) -> Row:
    name = command[2] if len(command) > 2 else " ".join(command)  # noqa: PLR2004 - program, model, eval
    successes = [record for record in records if record.result is Result.SUCCESS]
    if done and not successes:
        return Row(eval=name, state="done", attempts=len(records))
    if not records:
        return Row(eval=name, state="to do")
    newest = successes[-1] if done else records[-1]
    state = "done" if done else STATE_OF[newest.result]
    if newest.result is Result.SUCCESS and not done:
        state = "to do"  # its line was taken out of the progress file, which is a fresh start
    return Row(
        eval=newest.eval,
        state=state,
        reason="" if done else newest.reason,
        final_report=newest.final_report,
        samples=newest.samples,
        duration=newest.duration,
        attempts=len(records),
        console_log=newest.console_log,
    )


# What openai/evals calls the figure that an eval is about, the usual ones first.
_MAIN = ("accuracy", "score", "f1_score", "bleu", "metascore", "mean")

# Figures that are about another one.
_ABOUT = ("std", "stderr", "count", "usage_", "num_", "n_")


class Score(msgspec.Struct, frozen=True):
    """The figure that an eval is about."""

    name: str
    value: float


def main_score(report: Mapping[str, Any] | None) -> Score | None:
    """The figure of a final report that a table shows; None where it has none."""
    figures = {
        name: number
        for name, value in (report or {}).items()
        if (number := _finite(value)) is not None
    }
    for name in _MAIN:
        if name in figures:
            return Score(name, figures[name])
    for name, value in figures.items():
        if not any(part in name for part in _ABOUT):
            return Score(name, value)
    return None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's numbers have no bounds
        return None
    return number if math.isfinite(number) else None


def spread(report: Mapping[str, Any] | None) -> float | None:
    """The uncertainty of the main figure, as the report gives it; None where it gives none."""
    score = main_score(report)
    if score is None or report is None:
        return None
    own = [f"{score.name}_{ending}" for ending in ("stderr", "std")]
    # The third is how openai/evals spells it.
    for name in (*own, "bootstrap_std", "boostrap_std", "stderr", "std"):
        number = _finite(report.get(name))
        if number is not None:
            return abs(number)
    return None

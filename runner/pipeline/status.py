import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TextIO

from runner.errors import EnvironmentFault, UsageError
from runner.execute.engine import Engine, answering
from runner.execute.left import Left, find_left
from runner.pipeline.prepare import this_host
from runner.pipeline.reports import State, status_reports
from runner.plan.names import check_names
from runner.record import attempts, progress, run_file
from runner.record.known import known_commands
from runner.record.layout import Layout
from runner.record.lock import is_held
from runner.record.run_file import RunFile
from runner.report.json_line import json_line
from runner.report.rows import Row, rows_of
from runner.report.summary import print_table
from runner.report.text import harmless, part_of_set


def rows(
    layout: Layout,
    commands: Sequence[tuple[str, ...]],
    running: Collection[tuple[str, ...]] = (),
) -> list[Row]:
    """A table's rows for commands, in their order, from what is on disk."""
    return rows_of(
        commands,
        finished=progress.read(layout.progress),
        records=attempts.read(layout.attempts).records,
        running=running,
    )


def show(
    root: Path,
    model: str,
    eval_set: str,
    *,
    out: TextIO,
    as_json: bool,
    junit: Path | None = None,
    summary: bool = False,
) -> bool:
    """Print the state of every eval that a run of this model and eval set planned or recorded.

    Args:
        root: the progress directory.
        model: as given to the run.
        eval_set: as given to the run.
        out: where to print.
        as_json: whether to print JSON.
        junit: a file for the same as JUnit XML.
        summary: whether to append it to the summary of a GitHub Actions job.

    Returns:
        Whether every eval of the last plan is finished.
    """
    check_names(model, eval_set)
    write = status_reports(junit, summary=summary)
    layout = Layout(root=root.resolve(), model=model, eval_set=eval_set)
    last = run_file.read(layout.run)
    finished = progress.read(layout.progress)
    past = attempts.read(layout.attempts)
    commands = known_commands(last, finished, past.records)
    if not commands:
        raise UsageError(
            f"{layout.root} has no progress of {model} {eval_set}; "
            "`evalset list progress` shows what it has"
        )
    left = containers_of(layout)
    running = {one.command for one in left if one.running}
    table = rows_of(commands, finished=finished, records=past.records, running=running)
    for message in filter(None, (*finished.damaged, *past.damaged, run_file.problem(layout.run))):
        print(harmless(f"warning: {message}"), file=sys.stderr)
    write([State(layout=layout, rows=table, part=of_set(last))])
    if as_json:
        content = state_of(model, eval_set, table, last)
        print(json_line(content), file=out)
    else:
        print_state(out, table, last)
        if not is_held(layout.lock):
            print_left(out, left, recorded={record.attempt for record in past.records})
    return is_finished(table, last)


def state_of(
    model: str, eval_set: str, table: Sequence[Row], last: RunFile | None
) -> dict[str, Any]:
    """A table as JSON has it, and how much of the eval set the last run planned."""
    return {
        "model": model,
        "eval_set": eval_set,
        "total": len(table),
        "planned": len(last.commands) if last else None,
        "in_eval_set": last.in_eval_set if last else None,
        "counts": dict(Counter(row.state for row in table)),
        "evals": table,
    }


def print_state(out: TextIO, table: Sequence[Row], last: RunFile | None) -> None:
    """Print a table, how many evals are in which state, and what the last run did not plan."""
    print_table(out, table)
    counts = Counter(row.state for row in table)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    print("; ".join(filter(None, (states, of_set(last)))), file=out)


def of_set(last: RunFile | None) -> str:
    """What the last run's plan leaves out of the eval set, in words; empty for nothing."""
    return part_of_set(len(last.commands), last.in_eval_set) if last else ""


def is_finished(table: Sequence[Row], last: RunFile | None) -> bool:
    """Tell whether every eval of the last plan is done; its rows are the table's first."""
    planned = len(last.commands) if last else len(table)
    return all(row.state == "done" for row in table[:planned])


def print_left(out: TextIO, left: Sequence[Left], *, recorded: Collection[str]) -> None:
    """Say what a killed run left that no run looks after; nothing of it is lost."""
    still = Counter(one.running for one in left if one.attempt not in recorded)
    running = f"{still[True]} running" if still[True] else ""
    ended = f"{still[False]} ended and not on record yet" if still[False] else ""
    if found := ", ".join(filter(None, (running, ended))):
        print(f"of a run that was killed: {found}; `evalset run` goes on with that", file=out)


def running_commands(layout: Layout) -> set[tuple[str, ...]]:
    """Commands that run now, also those of a run that was killed; without an engine none does."""
    return {one.command for one in containers_of(layout) if one.running}


def containers_of(layout: Layout) -> list[Left]:
    """Containers of runs that go on or were killed; none without an engine."""
    try:
        engine = Engine()
        with answering():
            return find_left(engine.api, layout, this_host().name)
    except EnvironmentFault:
        return []

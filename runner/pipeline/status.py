import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.execute.engine import Engine, answering
from runner.execute.left import find_left
from runner.pipeline.prepare import this_host
from runner.pipeline.reports import status_reports
from runner.plan.names import check_names
from runner.record import attempts, progress, run_file
from runner.record.layout import Layout
from runner.record.run_file import RunFile
from runner.report.rows import Row, rows_of
from runner.report.summary import print_table
from runner.report.text import harmless


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
    commands = _known_commands(layout)
    if not commands:
        raise UsageError(
            f"{layout.root} has no progress of {model} {eval_set}; "
            "`evalset list progress` shows what it has"
        )
    table = rows(layout, commands, running=_running(layout))
    damaged = (*progress.read(layout.progress).damaged, *attempts.read(layout.attempts).damaged)
    for message in damaged:
        print(harmless(f"warning: {message}"), file=sys.stderr)
    write([(layout, table)])
    counts = Counter(row.state for row in table)
    if as_json:
        content = {
            "model": model,
            "eval_set": eval_set,
            "total": len(table),
            "counts": dict(counts),
            "evals": table,
        }
        print(msgspec.json.encode(content).decode(), file=out)
    else:
        print_table(out, table)
        print(", ".join(f"{count} {state}" for state, count in counts.items()), file=out)
    return is_finished(table, run_file.read(layout.run))


def is_finished(table: Sequence[Row], last: RunFile | None) -> bool:
    """Tell whether every eval of the last plan is done; its rows are the table's first."""
    planned = len(last.commands) if last else len(table)
    return all(row.state == "done" for row in table[:planned])


def _known_commands(layout: Layout) -> list[tuple[str, ...]]:
    """Commands of the last plan, then finished and attempted ones that it does not have."""
    pinned = run_file.read(layout.run)
    finished = progress.read(layout.progress)
    records = attempts.read(layout.attempts).records
    return list(
        dict.fromkeys(
            [
                *(pinned.commands if pinned else ()),
                *finished.commands,
                *(tuple(line.split(" ")) for line in finished.lines),
                *(record.command for record in records),
            ]
        )
    )


def _running(layout: Layout) -> set[tuple[str, ...]]:
    """Commands that run now, also those of a run that was killed; without an engine none does."""
    try:
        engine = Engine()
        with answering():
            left = find_left(engine.api, layout, this_host().name)
    except EnvironmentFault:
        return set()
    return {one.command for one in left if one.running}

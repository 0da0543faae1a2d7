import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from runner.branch.progress_branch import ProgressBranch, open_branch
from runner.commands.parameters import as_json, progress_dir, remote, snapshot_repo
from runner.commands.parsing import ConfiguredCommand, complete_eval_set, complete_model
from runner.engine.leftovers import Left, containers_of
from runner.errors import UsageError
from runner.host import this_host
from runner.model import check_names
from runner.options import SnapshotOptions
from runner.records.attempts import read_attempts
from runner.records.layout import Layout
from runner.records.lock import is_held
from runner.records.merge import merge
from runner.records.progress import read_progress
from runner.records.run_file import RunFile, read_run_file, run_file_problem
from runner.records.state import Part, Reader, known_commands
from runner.report.ci import State, status_reports
from runner.report.rows import Row, rows_of
from runner.report.table import print_table
from runner.report.text import harmless, inert, json_line, one_line, part_of_set


def rows(
    layout: Layout,
    commands: Sequence[tuple[str, ...]],
    running: Collection[tuple[str, ...]] = (),
) -> list[Row]:
    """A table's rows for commands, in their order, from what is on disk."""
    return rows_of(
        commands,
        finished=read_progress(layout.progress),
        records=read_attempts(layout.attempts).records,
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
    last = read_run_file(layout.run)
    finished = read_progress(layout.progress)
    past = read_attempts(layout.attempts)
    commands = known_commands(last, finished, past.records)
    if not commands:
        raise UsageError(
            f"{layout.root} has no progress of {model} {eval_set}; "
            "`evalset list progress` shows what it has"
        )
    left = containers_of(layout)
    running = {one.command for one in left if one.running}
    table = rows_of(commands, finished=finished, records=past.records, running=running)
    for message in filter(None, (*finished.damaged, *past.damaged, run_file_problem(layout.run))):
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


def parts_of_branch(
    root: Path, options: SnapshotOptions, name: str, *, model: str | None, eval_set: str | None
) -> list[Part]:
    """What a branch says, here and at its remote together; no work tree is needed or touched.

    Args:
        root: the progress directory, where a repository of our own may be.
        options: where the branch is.
        name: of the branch.
        model: the one to look at; None looks at all.
        eval_set: as above.

    Raises:
        UsageError: there is no such branch, or it has nothing of that model and eval set.
    """
    with open_branch(options, root.resolve(), this_host(), name=name) as branch:
        contents = _both(branch)
        parts = Reader().parts(contents, source=f"branch {name}")
    chosen = [
        part for part in parts if model in {None, part.model} and eval_set in {None, part.eval_set}
    ]
    if not chosen:
        has = ", ".join(f"{part.model} {part.eval_set}" for part in parts) or "nothing"
        raise UsageError(f"the branch {name} has no {model} {eval_set}; it has {has}")
    return chosen


def _both(branch: ProgressBranch) -> Mapping[str, bytes]:
    """The state files of the branch here, merged with those of the remote's."""
    merged: dict[str, bytes] = {}
    for tip in branch.tips():
        for path, content in branch.states(tip).items():
            merged[path] = merge(path, merged[path], content) if path in merged else content
    return merged


def rows_of_part(part: Part) -> list[Row]:
    """The table of one model and eval set."""
    return rows_of(part.commands, finished=part.finished, records=part.records)


def show_branch(
    parts: list[Part],
    *,
    root: Path,
    out: TextIO,
    as_json: bool,
    junit: Path | None = None,
    summary: bool = False,
) -> bool:
    """Print the tables of a branch.

    Args:
        parts: what the branch says.
        root: the progress directory, where console logs may be, too.
        out: where to print.
        as_json: whether to print JSON.
        junit: a file for the same as JUnit XML.
        summary: whether to append it to the summary of a GitHub Actions job.

    Returns:
        Whether every eval of each last plan is finished.
    """
    write = status_reports(junit, summary=summary)
    for message in (message for part in parts for message in part.damaged):
        print(inert(one_line(f"warning: {message}")), file=sys.stderr)
    contents = []
    states = []
    finished = True
    for part in parts:
        table = rows_of_part(part)
        layout = Layout(root=root.resolve(), model=part.model, eval_set=part.eval_set)
        states.append(State(layout=layout, rows=table, part=of_set(part.run)))
        finished = finished and is_finished(table, part.run)
        contents.append(state_of(part.model, part.eval_set, table, part.run))
        if not as_json:
            if len(parts) > 1:
                print(inert(one_line(f"{part.model} {part.eval_set}")), file=out)
            print_state(out, table, part.run)
    if as_json:
        printed = contents[0] if len(contents) == 1 else contents
        print(json_line(printed), file=out)
    write(states)
    return finished


@click.command(cls=ConfiguredCommand, epilog="Example: evalset status gpt-4 test-basic")
@click.argument("model", required=False, shell_complete=complete_model)
@click.argument("eval_set", required=False, shell_complete=complete_eval_set)
@progress_dir
@click.option("--branch", metavar="NAME", help="Read a progress branch, not the directory.")
@snapshot_repo
@remote
@as_json
@click.option(
    "--junit",
    "junit_file",  # not by its own name, for a configuration file's is that of runs
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the same to this file as JUnit XML.",
)
@click.option(
    "--summary", is_flag=True, help="Add the same to the summary of a GitHub Actions job."
)
@click.option(
    "--check", is_flag=True, help="Exit 1 unless every eval of the last plan is finished."
)
def command(
    *,
    model: str | None,
    eval_set: str | None,
    progress_dir: Path,
    branch: str | None,
    snapshot_repo: Path | None,
    remote: str | None,
    as_json: bool,
    junit_file: Path | None,
    summary: bool,
    check: bool,
) -> int:
    """Show what is done, what failed and what is to do.

    With --branch, MODEL and EVAL_SET may be left out to see all that the branch has.
    """
    if branch is not None:
        from runner.options import SnapshotOptions

        options = SnapshotOptions(branch=branch, repo=snapshot_repo, remote=remote)
        parts = parts_of_branch(progress_dir, options, branch, model=model, eval_set=eval_set)
        finished = show_branch(
            parts,
            root=progress_dir,
            out=sys.stdout,
            as_json=as_json,
            junit=junit_file,
            summary=summary,
        )
        return int(check and not finished)
    if model is None or eval_set is None:
        raise click.UsageError("MODEL and EVAL_SET are missing; only --branch does without them")

    finished = show(
        progress_dir,
        model,
        eval_set,
        out=sys.stdout,
        as_json=as_json,
        junit=junit_file,
        summary=summary,
    )
    return int(check and not finished)

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from runner.errors import UsageError
from runner.pipeline.options import SnapshotOptions
from runner.pipeline.prepare import this_host
from runner.pipeline.reports import State, status_reports
from runner.pipeline.sharing import branch_of
from runner.pipeline.status import is_finished, of_set, print_state, state_of
from runner.record.layout import Layout
from runner.report.actions import inert
from runner.report.json_line import json_line
from runner.report.rows import Row, rows_of
from runner.report.text import one_line
from runner.share.merge import merge
from runner.share.progress_branch import ProgressBranch
from runner.share.remote import OvertakenError, Remote, RemoteError
from runner.share.state import Part, Reader


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
    with branch_of(options, root.resolve(), this_host(), name=name) as (branch, remote, _):
        contents = _both(branch, remote)
        parts = Reader().parts(contents, source=f"branch {name}")
    chosen = [
        part for part in parts if model in {None, part.model} and eval_set in {None, part.eval_set}
    ]
    if not chosen:
        has = ", ".join(f"{part.model} {part.eval_set}" for part in parts) or "nothing"
        raise UsageError(f"the branch {name} has no {model} {eval_set}; it has {has}")
    return chosen


def both_tips(branch: ProgressBranch, remote: Remote | None) -> list[str]:
    """The newest snapshots of a branch, here and at its remote.

    Raises:
        UsageError: there is none.
    """
    theirs = None
    away = ""
    if remote is not None:
        try:
            theirs = remote.fetch(branch.name)
        except (RemoteError, OvertakenError) as error:
            away = f"the remote {remote.shown} cannot be used: {error}"
    here = branch.tip()
    if theirs is not None:
        branch.check(theirs)
    if here is None and theirs is None:
        raise UsageError(
            f"there is no branch {branch.name} in {branch.repository.git_dir}"
            f"{f' or at {remote.shown}' if remote else ''}{f': {away}' if away else ''}; "
            "`git branch --all --list '*evalset/*'` lists what is here"
        )
    if away:
        print(inert(one_line(f"warning: {away}; this is what is here")), file=sys.stderr)
    return [tip for tip in dict.fromkeys([here, theirs]) if tip is not None]


def _both(branch: ProgressBranch, remote: Remote | None) -> Mapping[str, bytes]:
    """The state files of the branch here, merged with those of the remote's."""
    merged: dict[str, bytes] = {}
    for tip in both_tips(branch, remote):
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

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.errors import UsageError
from runner.host import this_host, usual
from runner.model import State
from runner.options import (
    FILE,
    PROGRESS_DIR,
    AsJson,
    BranchOptions,
    EvalSet,
    Model,
    ProgressDir,
    SnapshotOptions,
)
from runner.parameters import Option
from runner.records.layout import Layout
from runner.records.state import EvalState, RunState
from runner.report.figures import Results
from runner.report.markdown import summary
from runner.report.text import json_line, part_of_set, plain_line, print_warning

if TYPE_CHECKING:
    from runner.branch.progress_branch import ProgressBranch
    from runner.hosts.leftovers import LeftOnHosts
    from runner.records.spending import Spent


class Shown(Results, frozen=True, kw_only=True):
    """What is printed of one model and eval set; the files of its layout may be elsewhere."""

    state: RunState
    spent: "Spent | None" = None
    hosts: "LeftOnHosts | None" = None

    @classmethod
    def of(
        cls,
        layout: Layout,
        state: RunState,
        rows: Sequence[EvalState],
        spent: "Spent | None" = None,
        hosts: "LeftOnHosts | None" = None,
    ) -> "Shown":
        """With what its newest plan skips of the eval set; of a branch nothing is spent."""
        part = part_of_set(state.planned, state.in_eval_set)
        return cls(layout=layout, state=state, rows=rows, part=part, spent=spent, hosts=hosts)

    @property
    def is_finished(self) -> bool:
        """Whether there is a newest plan and all of it is finished; its rows are the first ones."""
        planned = self.state.planned
        return planned != 0 and all(row.state is State.DONE for row in self.rows[:planned])

    def as_json(self) -> dict[str, Any]:
        """A table as JSON has it, how much of the eval set was planned, and what was spent."""
        from runner.report.model_use import spent_json

        hosts = {"hosts": hosts_json(self.hosts)} if self.hosts and self.hosts.known else {}
        return {
            "model": self.state.model,
            "eval_set": self.state.eval_set,
            "total": len(self.rows),
            "planned": self.state.planned,
            "in_eval_set": self.state.in_eval_set,
            "counts": dict(Counter(row.state for row in self.rows)),
            "answers": spent_json(self.spent),
            **hosts,
            "evals": self.rows,
        }


def hosts_json(left: "LeftOnHosts") -> dict[str, Any]:
    """What is known of each host that has something, or is away."""
    hosts = {each.host for each in left.attempts} | left.away.keys()
    return {
        host: {
            "away_since": left.away.get(host),
            **Counter(each.phase for each in left.attempts if each.host == host),
        }
        for host in sorted(hosts)
    }


class Forms(msgspec.Struct, frozen=True, kw_only=True):
    """In which forms people and programs get a status, besides the table."""

    as_json: AsJson = False
    junit: Annotated[
        Path | None, Option("Write the same to this file as JUnit XML.", FILE, configurable=False)
    ] = None
    summary: Annotated[
        bool,
        Option("Add the same to the summary of a GitHub Actions job.", configurable=False),
    ] = False


def show(shown: Sequence[Shown], forms: Forms, *, out: TextIO) -> bool:
    """Print the state of every eval that runs planned or recorded.

    Args:
        shown: what to print.
        forms: JSON takes the place of the table.
        out: where to print.

    Returns:
        Whether every eval of each newest plan is finished.
    """
    from runner.report.export import add_summary, check_junit, step_summary, write_junit
    from runner.secrets import Mask

    check_junit(forms.junit)
    page = step_summary(os.environ) if forms.summary else None
    for one in shown:
        for message in (*one.state.damaged, *(one.spent.damaged if one.spent else ())):
            print_warning(message)
    if forms.junit is not None:
        write_junit(forms.junit, shown, Mask(usual(os.environ)))
    if page is not None:
        add_summary(page, shown)
    if forms.as_json:
        contents = [one.as_json() for one in shown]
        print(json_line(contents[0] if len(contents) == 1 else contents), file=out)
    else:
        from runner.report.model_use import spent_line
        from runner.report.table import print_table

        for one in shown:
            if len(shown) > 1:
                print(plain_line(f"{one.state.model} {one.state.eval_set}"), file=out)
            print_table(out, one.rows, hosts=bool(one.hosts and one.hosts.known))
            print("; ".join(filter(None, (summary(one.rows), one.part))), file=out)
            if one.spent and (line := spent_line(one.spent)):
                print(line, file=out)
    return all(one.is_finished for one in shown)


def of_directory(
    root: Path, model: str, eval_set: str, *, ask_hosts: bool = False
) -> tuple[Shown, list[str]]:
    """What a progress directory says of a model and eval set.

    Args:
        ask_hosts: whether to ask the hosts of a run what runs there.

    Returns:
        It, and lines on what a killed run left that no run looks after, and on hosts.

    Raises:
        UsageError: it has nothing of them.
    """
    from runner.engine.leftovers import containers_of
    from runner.hosts.leftovers import left_on_hosts
    from runner.records.run_lock import is_held
    from runner.records.spending import read_spent

    layout = Layout.named(root, model, eval_set)
    state = RunState.from_directory(layout)
    if not state.commands:
        raise layout.no_progress()
    left = containers_of(layout)
    there = left_on_hosts(layout, state, ask=ask_hosts)
    here = {one.command: "" for one in left if one.running}
    rows = state.evals(running=here | there.running())
    live = is_held(layout.lock)
    orphans = [] if live else left
    recorded = {attempt.id for attempt in state.attempts}
    still = Counter(one.running for one in orphans if one.attempt not in recorded)
    running = f"{still[True]} running" if still[True] else ""
    ended = f"{still[False]} ended but not recorded" if still[False] else ""
    found = ", ".join(filter(None, (running, ended)))
    lines = [f"left by a run that was killed: {found}; `evalset run` continues it"] if found else []
    lines += _away_lines(there) if live else _killed_lines(there)
    spent = read_spent(layout, state.commands)
    return Shown.of(layout, state, rows, spent, there), [*lines, *there.problems]


def _away_lines(there: "LeftOnHosts") -> list[str]:
    """Which hosts of a live run are away."""
    hosts = Counter(there.running().values())
    return [
        f"{host} is away since {since[:19].replace('T', ' ')} UTC; evals there: {hosts[host]}"
        for host, since in sorted(there.away.items())
    ]


def _killed_lines(there: "LeftOnHosts") -> list[str]:
    """What a run that was killed has left on hosts."""
    from runner.hosts.leftovers import LeftoverState, where_words

    words = {
        LeftoverState.RUNNING: "running",
        LeftoverState.ENDED: "ended but not recorded",
        LeftoverState.GONE: "gone, to be run again",
        LeftoverState.UNKNOWN: "running when it was last heard of",
    }
    hosts = {
        phase: where_words(each.host for each in there.attempts if each.phase is phase)
        for phase in words
    }
    found = ", ".join(f"{hosts[phase]} {text}" for phase, text in words.items() if hosts[phase])
    if not found:
        return []
    ask = "; --ask-hosts asks what runs there now" if hosts[LeftoverState.UNKNOWN] else ""
    return [
        f"left on hosts by a run that was killed: {found}; `evalset run --hosts` continues it{ask}"
    ]


def of_branch(
    root: Path, options: SnapshotOptions, name: str, *, model: str | None, eval_set: str | None
) -> list[Shown]:
    """What a branch says, here and at its remote together; no work tree is needed or touched.

    Args:
        root: the progress directory, where a repository of our own, and console logs, may be.
        options: where the branch is.
        name: of the branch.
        model: the one to look at; None looks at all.
        eval_set: as above.

    Raises:
        UsageError: there is no such branch, or it has nothing of that model and eval set.
    """
    from runner.branch.progress_branch import open_branch

    with open_branch(options, root.resolve(), this_host(), name=name) as branch:
        contents = _both(branch)
        runs = RunState.from_branch(contents, source=f"branch {name}")
    chosen = [
        run for run in runs if model in {None, run.model} and eval_set in {None, run.eval_set}
    ]
    if not chosen:
        has = ", ".join(f"{run.model} {run.eval_set}" for run in runs) or "nothing"
        raise UsageError(f"the branch {name} has no {model} {eval_set}", f"it has {has}")
    return [
        Shown.of(
            Layout(root=root.resolve(), model=run.model, eval_set=run.eval_set), run, run.evals()
        )
        for run in chosen
    ]


def _both(branch: "ProgressBranch") -> Mapping[str, bytes]:
    """The state files of the branch here, merged with those of the remote's."""
    from runner.records.snapshot import merge_files

    merged: dict[str, bytes] = {}
    for tip in branch.tips():
        merged = merge_files(merged, branch.states(tip))
    return merged


@evalset_command("evalset status gpt-4 test-basic")
def command(
    *,
    model: Model | None = None,
    eval_set: EvalSet | None = None,
    progress_dir: ProgressDir = PROGRESS_DIR,
    where: BranchOptions,
    forms: Forms,
    ask_hosts: Annotated[
        bool,
        Option("Ask the hosts of a run what runs there now.", configurable=False),
    ] = False,
    check: Annotated[
        bool,
        Option("Exit 1 unless every eval of the last plan is finished.", configurable=False),
    ] = False,
) -> int:
    """Show which evals are finished, which failed and which are to do.

    With --branch, MODEL and EVAL_SET may be left out to see all that the branch has.
    """
    left: list[str] = []
    if where.branch is not None:
        found = of_branch(
            progress_dir, where.snapshots, where.branch, model=model, eval_set=eval_set
        )
    elif model is None or eval_set is None:
        raise click.UsageError(
            "MODEL and EVAL_SET are missing; `evalset list progress` shows what there is, and "
            "only --branch does without them"
        )
    else:
        shown, left = of_directory(progress_dir, model, eval_set, ask_hosts=ask_hosts)
        found = [shown]
    finished = show(found, forms, out=sys.stdout)
    for line in () if forms.as_json else left:
        print(plain_line(line), file=sys.stdout)
    return int(check and not finished)

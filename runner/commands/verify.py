import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TextIO

import msgspec

from runner.commands.command_line import evalset_command
from runner.errors import EnvironmentFault, UsageError
from runner.host import new_id, this_host
from runner.model import Attempt
from runner.options import (
    PROGRESS_DIR,
    AsJson,
    BranchOptions,
    EvalSet,
    Model,
    ProgressDir,
    Select,
    SnapshotOptions,
)
from runner.records.layout import Layout
from runner.records.state import in_words
from runner.report.display import Display, display_for
from runner.report.text import json_line, plain_line, print_warning
from runner.run.rerun import RerunOptions
from runner.run.verify import NO_ANSWERS, Verification, verify
from runner.run.verify_verdict import Verdict, Verified

# What no two runs have in common.
NEVER_THE_SAME = ("times", "run_id", "event_id", "created_by")

NOT_ON_BRANCH = (
    "it has no answers on the branch; runs and `evalset snapshot take` put them there with "
    "--snapshot-answers"
)

WIDTH = max(map(len, Verdict)) + 2


@contextlib.contextmanager
def record_of(root: Path, model: str, eval_set: str, options: SnapshotOptions) -> Iterator[Layout]:
    """Where the record is, while its files are there: a progress directory, or one of a branch.

    Args:
        root: the progress directory, where a repository of our own may be.
        options: which branch, if any.
    """
    layout = Layout.named(root, model, eval_set)
    if options.branch is None:
        yield layout
        return
    from runner.branch.progress_branch import open_branch
    from runner.branch.restore import restore_progress
    from runner.branch.segments import restore_answers
    from runner.records.folders import temporary_folder

    with (
        temporary_folder("record") as place,
        open_branch(options, layout.root, this_host(), name=options.branch) as branch,
    ):
        layout = Layout(root=place, model=model, eval_set=eval_set)
        for tip in branch.tips():
            restore_progress(branch, tip, layout, warn=print_warning)
            restore_answers(branch.repository, tip, layout, warn=print_warning)
        if not any(path.exists() for path in layout.kept):
            raise UsageError(
                f"the branch {options.branch} has no {model} {eval_set}",
                f"`evalset status --branch {options.branch}` shows what it has",
            )
        yield layout


class _WithoutFiles:
    """A display of runs whose files are gone afterwards: it points to none of them."""

    def __init__(self, inner: Display) -> None:
        self.wants_samples = inner.wants_samples
        self.begin = inner.begin
        self.note = inner.note
        self.warn = inner.warn
        self.started = inner.started
        self.progressed = inner.progressed
        self.away = inner.away
        self.back = inner.back
        self.end = inner.end
        self._inner = inner

    @property
    def tail_lines(self) -> int:
        """As many as the display itself shows."""
        return self._inner.tail_lines

    def ended(self, outcome: Attempt, *, again: bool, tail: tuple[str, ...]) -> None:
        """Show how an attempt ended."""
        outcome = msgspec.structs.replace(outcome, console_log=None)
        self._inner.ended(outcome, again=again, tail=tail)


def show(found: Verification, *, out: TextIO) -> None:
    """Print what is known of each eval, and what was not compared."""
    verified = found.verified
    times = Counter(one.eval for one in verified)
    for one in verified:
        name = one.eval
        if times[name] > 1:
            name += f" ({in_words(one.command.arguments)})"
        _print(f"{one.verdict:<{WIDTH}}{name}{_facts(one)}", out)
        for line in _details(one):
            _print(f"{'':<{WIDTH}}{line}", out)
    random = Counter(name for one in verified for name in one.random)
    drawn = [f"{name} ({count} drawn at random)" for name, count in random.items()]
    if any(one.verdict is not Verdict.CANNOT_TELL for one in verified):
        _print(f"not compared: {', '.join((*NEVER_THE_SAME, *drawn))}", out)
    counts = Counter(one.verdict for one in verified)
    said = [f"{each}: {counts[each]}" for each in Verdict if counts[each]]
    if found.unfinished:
        said.append(f"not finished, and skipped: {found.unfinished}")
    _print(", ".join(said), out)


def _print(line: str, out: TextIO) -> None:
    print(plain_line(line), file=out)


def _facts(one: Verified) -> str:
    if one.verdict is Verdict.CANNOT_TELL:
        return f": {one.reason}"
    return f"  ({_count(one.samples, 'sample')}, {_count(one.answers, 'answer')})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _details(one: Verified) -> Iterator[str]:
    """What differs, one line each."""
    if one.verdict is Verdict.DIFFERS and one.reason:
        yield one.reason
    yield from one.missing
    if one.more_missing:
        yield f"{_count(one.more_missing, 'more request')} without an answer on record"
    for each in one.differences:
        yield f"{each.where}: expected {each.expected}, found {each.found}"
    if one.more:
        yield f"{one.more} more figures or samples differ"
    yield from one.notes


def document(model: str, eval_set: str, found: Verification) -> dict[str, object]:
    """The same as JSON has it."""
    return {
        "model": model,
        "eval_set": eval_set,
        "counts": dict(Counter(one.verdict for one in found.verified)),
        "unfinished": found.unfinished,
        "not_compared": NEVER_THE_SAME,
        "evals": found.verified,
    }


def exit_code(verified: Sequence[Verified]) -> int:
    """0 where all are the same, 1 where one differs, 3 where nobody can tell of one."""
    verdicts = {one.verdict for one in verified}
    if Verdict.DIFFERS in verdicts:
        return 1
    return EnvironmentFault.exit_code if Verdict.CANNOT_TELL in verdicts else 0


@evalset_command("evalset verify gpt-4 test-basic")
def command(
    *,
    model: Model,
    eval_set: EvalSet,
    select: Annotated[Select, "Verify these evals only; * is any text."] = (),
    given: RerunOptions,
    progress_dir: ProgressDir = PROGRESS_DIR,
    where: BranchOptions,
    as_json: AsJson = False,
) -> int:
    """Run finished evals again from the recorded answers, offline, and compare.

    Says for each whether its final report and samples are the same. Exits with 0 if all are, with 1
    if one differs, and with 3 if it cannot tell. No provider is asked and no key is needed.
    """
    began = time.monotonic()
    with record_of(progress_dir, model, eval_set, where.snapshots) as layout:
        found = verify(
            layout,
            given,
            this_host(),
            _WithoutFiles(display_for(sys.stderr)),
            select=select,
            no_answers=NOT_ON_BRANCH if where.snapshots.branch else NO_ANSWERS,
            new_id=new_id,
            began=began,
        )
    if as_json:
        print(json_line(document(model, eval_set, found)), file=sys.stdout)
    else:
        show(found, out=sys.stdout)
    return found.interrupted or exit_code(found.verified)

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache

from runner.model import Command, State
from runner.options import OAIEVAL
from runner.plan.pins import RunFile
from runner.records.snapshot import ExcludedFile
from runner.records.state import EvalState, EvalStates, RunState
from runner.report.figures import RESULT_COLUMNS, result_cells
from runner.report.text import evals, one_line, part_of_set

# What asks for attention comes first, what has gone well last.
_ORDER = (State.FAILED, State.LOST, State.RUNNING, State.TO_DO, State.DONE)

_LONGEST = 200


def section(
    model: str,
    eval_set: str,
    rows: Sequence[EvalState],
    *,
    part: str = "",
    level: int = 3,
    limit: int | None = None,
) -> str:
    """A heading with the model and the eval set, the summary, and the table.

    Args:
        model: as given.
        eval_set: as given.
        rows: of the table.
        part: what of the eval set these are, in plain words; empty for all of it.
        level: of the heading, from 1 to 6.
        limit: as for `table`.
    """
    heading = f"{'#' * level} {code(model)} {code(eval_set)}"
    line = "; ".join(filter(None, (summary(rows), part)))
    blocks = (heading, line, table(rows, limit=limit).rstrip("\n"))
    return "\n\n".join(filter(None, blocks)) + "\n"


def summary(rows: Sequence[EvalState]) -> str:
    """How far a run is, in a few words: `12 of 40 evals finished, 1 failed, 27 to do`."""
    counts = Counter(row.state for row in rows)
    words = [f"{counts[State.DONE]} of {evals(len(rows))} finished"]
    words += [f"{counts[state]} {state}" for state in _ORDER[:4] if counts[state]]
    return ", ".join(words)


def table(rows: Sequence[EvalState], *, limit: int | None = None) -> str:
    """Rows as a table in GitHub's Markdown, those that ask for attention first.

    Names and reasons come from registries, models and containers. As code they are text and
    nothing else: neither markup nor HTML, and nobody is mentioned.

    Args:
        rows: in any order, which is kept within a state.
        limit: of the rows shown; a line below says what is not. None shows all.
    """
    if not rows:
        return ""
    ordered = sorted(rows, key=lambda row: _ORDER.index(row.state))
    shown = ordered if limit is None else ordered[:limit]
    lines = [
        f"| eval | state | {' | '.join(RESULT_COLUMNS)} |",
        f"|---|---|{'--:|' * len(RESULT_COLUMNS)}",
    ]
    for row in shown:
        notes = [_in_cell(note) for note in (row.arguments, row.reason) if note]
        name = "<br>".join([_in_cell(row.eval), *notes])
        state = f"**{row.state}**" if row.state in {State.FAILED, State.LOST} else row.state
        lines.append(f"| {' | '.join([name, state, *result_cells(row, _in_cell)])} |")
    if more := ordered[len(shown) :]:
        lines += ["", _more(more)]
    return "\n".join(lines) + "\n"


@lru_cache(maxsize=4096)  # a branch's page is made again with every snapshot
def code(text: str) -> str:
    """Text as a span of code that has nothing but this text in it."""
    text = one_line(text).strip()
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    if not text:
        return ""
    # A span ends at as many backticks as it began with.
    runs = {len(found) for found in re.findall("`+", text)}
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _in_cell(text: str) -> str:
    # GitHub looks for cells before it looks for code: https://github.github.com/gfm/#example-200
    return code(text).replace("|", "\\|")


def _more(rows: Sequence[EvalState]) -> str:
    counts = Counter(row.state for row in rows)
    noun = "eval" if len(rows) == 1 else "evals"
    if set(counts) == {State.DONE}:
        return f"... and {len(rows)} more finished {noun}"
    states = [f"{counts[state]} {state}" for state in _ORDER[:4] if counts[state]]
    which = ", ".join(
        [*states, *([f"{counts[State.DONE]} finished"] if counts[State.DONE] else [])]
    )
    return f"... and {len(rows)} more {noun}: {which}"


# Rows of one table of a branch's page: each costs time with every snapshot.
LIMIT = 500

_INTRODUCTION = """\
# Progress of evals

<!-- made by evalset with each snapshot; what is changed here by hand is lost -->

This branch holds the progress directory of `evalset run`: finished commands and attempts in
[oaievalset](oaievalset), logs in [evallogs](evallogs). The command below resumes the run on any
host.
"""


class BranchPage:
    """The page that a progress branch shows on the web, in GitHub's Markdown."""

    def __init__(self) -> None:
        self._states: defaultdict[tuple[str, str], EvalStates] = defaultdict(EvalStates)
        self._sections: dict[tuple[str, str], tuple[RunState, str]] = {}

    def of(self, runs: Sequence[RunState]) -> bytes:
        """The page for what the branch has now."""
        sections = [_INTRODUCTION, *map(self._section, runs)]
        excluded = dict.fromkeys(file for run in runs for file in run.files_left_out)
        if excluded:
            sections.append(_excluded(sorted(excluded, key=lambda one: (one.path, one.host))))
        return "\n".join(sections).encode()

    def _section(self, run: RunState) -> str:
        name = run.model, run.eval_set
        before, text = self._sections.get(name, (None, ""))
        if run is not before:
            rows = run.evals(states=self._states[name])
            part = part_of_set(run.planned, run.in_eval_set)
            text = section(*name, rows, part=part, level=2, limit=LIMIT) + _about(run)
            self._sections[name] = (run, text)
        return text


def _about(state: RunState) -> str:
    """How to resume, and what the newest run ran in."""
    run = state.run
    words, folders = _again(run) if run else ([], "")
    command = shlex.join(["evalset", "run", state.model, state.eval_set, "--snapshot", *words])
    lines = ["", f"To resume: {code(command)}{folders}"]
    if run is not None:
        image = run.image_digest or run.image_fingerprint or run.image_id
        lines += ["", f"Newest run: {code(run.run)}, image {code(run.image)} ({code(image)})"]
    return "\n".join([*lines, ""])


def _again(run: RunFile) -> tuple[list[str], str]:
    """Options by which a run becomes like this one, and what a host has to add to them."""
    commands = list(map(Command, run.commands))
    words = [] if run.image_fingerprint else ["--image", run.image]
    programs = {command.program for command in commands} - {OAIEVAL}
    if len(programs) == 1:
        words += ["--run-command", *programs]
    arguments = {command.arguments for command in commands}
    common = [*arguments.pop()] if len(arguments) == 1 else []
    folders = ""
    while common[-2:-1] == ["--registry_path"]:
        del common[-2:]
        folders = ", with its registry folders (`--registry-path`)"
    return [*words, *common], folders


def _excluded(files: Sequence[ExcludedFile]) -> str:
    lines = ["## Left out", "", "These stay on their hosts.", ""]
    lines += ["| file | host | why | bytes | SHA-256 |", "|---|---|---|--:|---|"]
    for one in files:
        words = map(_in_cell, (one.path, one.host, one.reason))
        lines.append(f"| {' | '.join(words)} | {one.size} | {_in_cell(one.sha256)} |")
    return "\n".join([*lines, ""])

import shlex
from collections import defaultdict
from collections.abc import Sequence

from runner.record.run_file import RunFile
from runner.report.markdown import code, section
from runner.report.rows import Rows, told_apart
from runner.report.text import part_of_set
from runner.share.left_out import LeftOut
from runner.share.state import Part

# Rows of one table: more than anybody reads, and each costs time with every snapshot.
LIMIT = 500

_INTRODUCTION = """\
# Progress of evals

<!-- made by evalset with each snapshot; what is changed here by hand is lost -->

This branch holds the progress directory of `evalset run`: finished commands and attempts in
[oaievalset](oaievalset), logs in [evallogs](evallogs). A run goes on on any host with the command
below.
"""


class BranchPage:
    """The page that a progress branch shows on the web, in GitHub's Markdown."""

    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, str], Rows] = defaultdict(Rows)
        self._sections: dict[tuple[str, str], tuple[Part, str]] = {}

    def of(self, parts: Sequence[Part]) -> bytes:
        """The page for what the branch has now."""
        sections = [_INTRODUCTION]
        left_out: dict[LeftOut, None] = {}
        for part in parts:
            sections.append(self._section(part))
            left_out |= dict.fromkeys(part.left_out)
        if left_out:
            sections.append(_left_out(sorted(left_out, key=lambda one: (one.path, one.host))))
        return "\n".join(sections).encode()

    def _section(self, part: Part) -> str:
        name = part.model, part.eval_set
        before, text = self._sections.get(name, (None, ""))
        if part is not before:
            rows = self._rows[name].of(part.commands, finished=part.finished, records=part.records)
            rows = told_apart(rows, part.commands)
            text = section(*name, rows, part=_of_set(part), level=2, limit=LIMIT) + _about(part)
            self._sections[name] = (part, text)
        return text


def _of_set(part: Part) -> str:
    return part_of_set(len(part.run.commands), part.run.in_eval_set) if part.run else ""


def _about(part: Part) -> str:
    """How to go on, and what the newest run ran in."""
    words, folders = _again(part.run) if part.run else ([], "")
    command = shlex.join(["evalset", "run", part.model, part.eval_set, "--snapshot", *words])
    lines = ["", f"To go on: {code(command)}{folders}"]
    if part.run is not None:
        image = part.run.image_digest or part.run.image_fingerprint or part.run.image_id
        lines += [
            "",
            f"Newest run: {code(part.run.run)}, image {code(part.run.image)} ({code(image)})",
        ]
    return "\n".join([*lines, ""])


def _again(run: RunFile) -> tuple[list[str], str]:
    """Options by which a run becomes like this one, and what a host has to add to them."""
    words = [] if run.image_fingerprint else ["--image", run.image]
    programs = {command[0] for command in run.commands} - {"oaieval"}
    if len(programs) == 1:
        words += ["--run-command", *programs]
    arguments = {command[3:] for command in run.commands}
    common = [*arguments.pop()] if len(arguments) == 1 else []
    folders = ""
    while common[-2:-1] == ["--registry_path"]:
        del common[-2:]
        folders = ", with its registry folders (`--registry-path`)"
    return [*words, *common], folders


def _left_out(files: Sequence[LeftOut]) -> str:
    lines = ["## Left out", "", "These stay on their hosts.", ""]
    lines += ["| file | host | why | bytes | SHA-256 |", "|---|---|---|--:|---|"]
    for one in files:
        cells = map(_cell, (one.path, one.host, one.reason))
        lines.append(f"| {' | '.join(cells)} | {one.size} | {_cell(one.sha256)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return code(text).replace("|", "\\|")

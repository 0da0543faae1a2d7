import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.pipeline.environment import usual
from runner.plan.mask import NO_MASK, Mask
from runner.record import console_log, files
from runner.record.layout import Layout
from runner.report.rows import Row
from runner.report.text import harmless

# Where GitHub takes Markdown for the page of a job from.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
# GitHub refuses more than 1 MB from a step.
SUMMARY_ROWS = 400
# The end of a failed eval's output that JUnit XML has.
TAIL_LINES = 50


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How far a model and an eval set are.

    Attributes:
        layout: where its files are.
        rows: of its table.
        part: what of the eval set that is, in words; empty for all of it.
    """

    layout: Layout
    rows: Sequence[Row]
    part: str = ""


States = Sequence[State]


def check_junit(path: Path | None) -> None:
    """Refuse a file for JUnit XML that cannot be written, before anything runs.

    Raises:
        UsageError: it is a folder, a device or the like, or its folder takes none.
        EnvironmentFault: nobody may look.
    """
    if path is None:
        return
    if path == Path():
        raise UsageError("--junit has no file name; name the file to write")
    with files.named(path, "write"):
        if path.exists() and not path.is_file():
            raise UsageError(f"--junit {path} is no plain file; name one that may be replaced")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"--junit {path}: nothing can be written to {above}; name another")


def write_junit(path: Path, states: States, mask: Mask = NO_MASK) -> None:
    """Write tables as JUnit XML, over what is there; what is masked is not in it."""
    files.replace(path.absolute(), junit_document(states, mask))


def junit_document(states: States, mask: Mask = NO_MASK) -> bytes:
    """Tables as JUnit XML; what is masked is not in it."""
    from runner.report.junit import Suite, document  # noqa: PLC0415 - only when asked for

    def output(layout: Layout, row: Row) -> tuple[str, ...]:
        if row.console_log is None:
            return ()
        where = f"whole output: {row.console_log}"
        tail = console_log.tail_below(layout, row.console_log, TAIL_LINES)
        return (*map(mask.text, tail), where)

    suites = [
        Suite(
            model=state.layout.model,
            eval_set=state.layout.eval_set,
            rows=state.rows,
            output=partial(output, state.layout),
        )
        for state in states
    ]
    return document(suites)


def add_summary(path: Path, states: States) -> None:
    """Append tables as Markdown to the summary of a GitHub Actions job."""
    from runner.report.markdown import section  # noqa: PLC0415 - only when asked for

    for state in states:
        text = section(
            state.layout.model,
            state.layout.eval_set,
            state.rows,
            part=state.part,
            limit=SUMMARY_ROWS // len(states),
        )
        files.append(path, f"{text}\n".encode(errors="replace"))


def step_summary(environ: Mapping[str, str]) -> Path:
    """The file of a GitHub Actions job's summary.

    Raises:
        UsageError: this is no step of such a job.
    """
    if not environ.get(STEP_SUMMARY):
        raise UsageError(
            f"--summary: {STEP_SUMMARY} is not set, as it is in a step of GitHub Actions; "
            "leave the option out, or set it to a file"
        )
    return Path(environ[STEP_SUMMARY])


def status_reports(junit: Path | None, *, summary: bool) -> Callable[[States], None]:
    """What writes a state where it was asked for; refuses at once what cannot be.

    Raises:
        UsageError: there is no summary, or the file cannot be written.
    """
    check_junit(junit)
    markdown = step_summary(os.environ) if summary else None

    def write(states: States) -> None:
        if junit is not None:
            write_junit(junit, states, Mask(usual(os.environ)))
        if markdown is not None:
            add_summary(markdown, states)

    return write


def after_run(
    states: States, *, junit: Path | None, environ: Mapping[str, str], mask: Mask = NO_MASK
) -> int:
    """Write what was asked for of a run that has ended, and say what cannot be written.

    Returns:
        The exit code for a run that went well.
    """
    if environ.get(STEP_SUMMARY):
        try:
            add_summary(step_summary(environ), states)
        except EnvironmentFault as error:
            print(harmless(f"warning: {error}"), file=sys.stderr)
    if junit is None:
        return 0
    try:
        write_junit(junit, states, mask)
    except EnvironmentFault as error:
        later = "`evalset status` with --junit writes it, too"
        print(harmless(f"Error: {error}; {later}"), file=sys.stderr)
        return error.exit_code
    return 0

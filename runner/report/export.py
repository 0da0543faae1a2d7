import csv
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.files import append, named, replace
from runner.host import STEP_SUMMARY
from runner.model import State
from runner.records.layout import Layout
from runner.records.logs import recorded_tail
from runner.records.state import EvalState
from runner.report.comparison import Comparison, Grid
from runner.report.facts import EvalFacts, Source, totals_of
from runner.report.figures import Results, main_score
from runner.report.model_use import ModelUse
from runner.report.text import harmless, json_line, one_line, print_warning
from runner.secrets import NO_MASK, Mask

VERSION = 1

# What a spreadsheet takes for a formula where a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_json(
    grid: Grid, sources: Sequence[Source], comparisons: Sequence[Comparison], *, currency: str
) -> bytes:
    """A report as one JSON object."""
    runs = [
        {
            "model": source.model,
            "eval_set": source.eval_set,
            "note": source.note,
            **_totals([fact for fact in grid.facts if fact.source is source]),
        }
        for source in sources
    ]
    content = {
        "version": VERSION,
        "currency": currency or None,
        "totals": _totals(grid.facts),
        "runs": runs,
        "evals": [_record(fact) for fact in grid.facts],
        "comparisons": [_compared(one) for one in comparisons],
    }
    return f"{json_line(content)}\n".encode()


def as_csv(grid: Grid) -> bytes:
    """A report as a table, whose text no spreadsheet takes for a formula."""
    out = io.StringIO()
    records = [_flat(_record(fact)) for fact in grid.facts]
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode(errors="replace")


def _record(fact: EvalFacts) -> dict[str, Any]:
    row, newest = fact.row, fact.attempt
    return {
        "model": fact.source.model,
        "eval_set": fact.source.eval_set,
        "note": fact.source.note,
        "eval": row.eval,
        "command": list(fact.command),
        "page": f"evals/{fact.page}.html",
        "state": row.state,
        "reason": row.reason,
        "score_name": fact.score.name if fact.score else None,
        "score": fact.score.value if fact.score else None,
        "spread": fact.spread,
        "samples": row.samples,
        "right": fact.log.right,
        "wrong": fact.log.wrong,
        "left_out": fact.log.events_left_out,
        "duration": row.duration,
        "prompt_tokens": fact.tokens.prompt,
        "completion_tokens": fact.tokens.completion,
        "cost": fact.cost,
        "attempts": row.attempts,
        **_asked(fact.asked),
        "started_at": newest.started_at if newest else None,
        "ended_at": newest.ended_at if newest else None,
        "host": newest.host if newest else None,
        "shard": fact.shard or None,
        "image": newest.image if newest else None,
        "final_report": row.final_report,
    }


def _asked(asked: ModelUse | None) -> dict[str, Any]:
    """What the answers on record say; without any, nothing is known."""
    totals = asked and asked.totals
    return {
        "requests": totals and totals.requests,
        "replayed": totals and totals.replayed,
        "perhaps_paid": totals and totals.perhaps_paid,
        "paid": asked and asked.cost,
        "latency": asked and asked.median,
        "latency_95": asked and asked.within(0.95),
    }


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, list | dict):
            found[name] = msgspec.json.encode(value).decode()
        elif isinstance(value, str) and value.lstrip(" \n").startswith(_FORMULA):
            found[name] = f"'{value}"
        else:
            found[name] = value
    return found


def _totals(facts: Sequence[EvalFacts]) -> dict[str, Any]:
    totals = totals_of(facts)
    return {
        "evals": totals.evals,
        "states": totals.states,
        "samples": totals.samples,
        "right": totals.right,
        "wrong": totals.wrong,
        "prompt_tokens": totals.tokens.prompt,
        "completion_tokens": totals.tokens.completion,
        "unpriced_tokens": totals.unpriced,
        "cost": totals.cost,
        "attempts": totals.attempts,
        **_asked(totals.asked),
        "seconds": totals.times.took,
        "seconds_one_at_a_time": totals.times.alone,
    }


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "before": found.before,
        "after": found.after,
        "samples": found.samples,
        "now_right": found.gained,
        "now_wrong": found.lost,
        "p": found.p,
        "same_arguments": found.same_arguments,
        "evals": [
            {
                "eval_set": line.eval_set,
                "eval": line.before.row.eval,
                "same_arguments": line.same_arguments,
                "before_arguments": line.before.command.arguments,
                "after_arguments": line.after.command.arguments,
                "note": line.note,
                "change": line.change,
                "test": line.paired.test,
                "samples": line.paired.samples,
                "now_right": line.paired.gained,
                "now_wrong": line.paired.lost,
                "p": line.paired.p,
                "p_adjusted": line.adjusted,
            }
            for line in found.lines
        ],
    }


# What XML 1.0 has no way to hold, not even escaped. https://www.w3.org/TR/xml/#charsets
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")

# The elements of a case that did not succeed, by the row's state.
_ELEMENTS = {
    State.FAILED: "failure",
    State.LOST: "error",
    State.RUNNING: "skipped",
    State.TO_DO: "skipped",
}

# GitHub refuses more than 1 MB from a step.
SUMMARY_ROWS = 400

# The end of a failed eval's output that JUnit XML has.
TAIL_LINES = 50


# The end of what an eval printed.
Output = Callable[[Layout, EvalState], Sequence[str]]


def junit_xml(results: Sequence[Results], output: Output) -> bytes:
    """Tables as JUnit XML: a suite for each, with a test case for each eval.

    A failed eval is a failure, a lost one an error, and one that is to do or runs is skipped.
    """
    root = ET.Element("testsuites")
    for one in results:
        name = _line(f"{one.layout.model}.{one.layout.eval_set}")
        suite = ET.SubElement(root, "testsuite", name=name)
        for row in one.rows:
            case = ET.SubElement(suite, "testcase", classname=name)
            _fill_case(case, row, partial(output, one.layout, row))
        _count(suite, one.rows)
    _count(root, [row for one in results for row in one.rows])
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _count(element: ET.Element, rows: Sequence[EvalState]) -> None:
    kinds = Counter(_ELEMENTS.get(row.state) for row in rows)
    seconds = sum(row.duration or 0 for row in rows)
    element.attrib |= {
        "tests": str(len(rows)),
        "failures": str(kinds["failure"]),
        "errors": str(kinds["error"]),
        "skipped": str(kinds["skipped"]),
        "time": f"{seconds:.3f}",
    }


def _fill_case(case: ET.Element, row: EvalState, output: Callable[[], Sequence[str]]) -> None:
    case.set("name", _line(" ".join(filter(None, (row.eval, row.arguments)))))
    if row.duration is not None:
        case.set("time", f"{row.duration:.3f}")
    facts = {"attempts": str(row.attempts)}
    if row.attempts:
        facts["samples"] = str(row.samples)
    if score := main_score(row.final_report):
        facts |= {"score": str(score.value), "score_name": score.name}
    properties = ET.SubElement(case, "properties")
    for key, value in facts.items():
        ET.SubElement(properties, "property", name=key, value=_line(value))
    kind = _ELEMENTS.get(row.state)
    if kind is None:
        return
    found = ET.SubElement(case, kind, message=_line(row.reason or row.state))
    if kind != "skipped":
        found.set("type", row.state)
        found.text = "\n".join(map(_text, output()))


def _line(text: str) -> str:
    return _text(one_line(text))


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", harmless(text))


def junit_document(results: Sequence[Results], mask: Mask = NO_MASK) -> bytes:
    """Tables as JUnit XML, with the end of what failed evals printed; what is masked is not in it.

    Logs are read below the progress directory alone, whatever a record names.
    """

    def output(layout: Layout, row: EvalState) -> Sequence[str]:
        if row.console_log is None:
            return ()
        tail = recorded_tail(layout, row.console_log, TAIL_LINES)
        return (*map(mask.text, tail), f"whole output: {row.console_log}")

    return junit_xml(results, output)


def check_junit(path: Path | None) -> None:
    """Refuse a file for JUnit XML that cannot be written, before anything runs.

    Raises:
        UsageError: it is a folder, a device or the like, or its folder takes none.
        EnvironmentFault: its folder cannot be read.
    """
    if path is None:
        return
    if path == Path():
        raise UsageError("--junit has no file name", "name the file to write")
    with named(path, "write"):
        if path.exists() and not path.is_file():
            raise UsageError(f"--junit {path} is not a plain file", "name one that may be replaced")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"--junit {path}: nothing can be written to {above}", "name another")


def write_junit(path: Path, results: Sequence[Results], mask: Mask = NO_MASK) -> None:
    """Write tables as JUnit XML, over what is there."""
    replace(path.absolute(), junit_document(results, mask))


def add_summary(path: Path, results: Sequence[Results]) -> None:
    """Append tables as Markdown to the summary of a GitHub Actions job."""
    from runner.report.markdown import section  # noqa: PLC0415 - only when asked for

    for one in results:
        text = section(
            one.layout.model,
            one.layout.eval_set,
            one.rows,
            part=one.part,
            limit=SUMMARY_ROWS // len(results),
        )
        append(path, f"{text}\n".encode(errors="replace"))


def step_summary(environ: Mapping[str, str]) -> Path:
    """The file of a GitHub Actions job's summary.

    Raises:
        UsageError: this is not a step of such a job.
    """
    if not environ.get(STEP_SUMMARY):
        raise UsageError(
            f"--summary: {STEP_SUMMARY} is not set, as it is in a step of GitHub Actions",
            "leave the option out, or set it to a file",
        )
    return Path(environ[STEP_SUMMARY])


def after_run(
    results: Sequence[Results],
    *,
    junit: Path | None,
    environ: Mapping[str, str],
    mask: Mask = NO_MASK,
) -> int:
    """Write the results of a run that has ended, and print what cannot be written.

    Returns:
        The exit code for a run that went well.
    """
    if environ.get(STEP_SUMMARY):
        try:
            add_summary(step_summary(environ), results)
        except EnvironmentFault as error:
            print_warning(str(error))
    if junit is None:
        return 0
    try:
        write_junit(junit, results, mask)
    except EnvironmentFault as error:
        later = "`evalset status` with --junit writes it, too"
        print(harmless(f"Error: {error}; {later}"), file=sys.stderr)
        return error.exit_code
    return 0

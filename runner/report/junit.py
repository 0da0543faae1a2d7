import re
from collections import Counter
from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

import msgspec

from runner.report.rows import Row
from runner.report.score import main_score
from runner.report.text import harmless, one_line

# What XML 1.0 has no way to hold, not even escaped. https://www.w3.org/TR/xml/#charsets
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The elements of a case that did not succeed, by the row's state.
_ELEMENTS = {"failed": "failure", "lost": "error", "running": "skipped", "to do": "skipped"}


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What JUnit XML shows of one model and eval set.

    Attributes:
        model: as given.
        eval_set: as given.
        rows: of the plan, in its order.
        output: gives the last lines of what an eval printed.
    """

    model: str
    eval_set: str
    rows: Sequence[Row]
    output: Callable[[Row], Sequence[str]]


def document(suites: Sequence[Suite]) -> bytes:
    """Suites as JUnit XML, with a test case for each eval.

    A failed eval is a failure, a lost one an error, and one that is to do or runs is skipped.
    """
    root = ET.Element("testsuites")
    for suite in suites:
        name = f"{suite.model}.{suite.eval_set}"
        element = ET.SubElement(root, "testsuite", name=_line(name))
        for row in suite.rows:
            _add_case(element, name, row, suite.output)
        _count(element, suite.rows)
    _count(root, [row for suite in suites for row in suite.rows])
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _count(element: ET.Element, rows: Sequence[Row]) -> None:
    kinds = Counter(_ELEMENTS.get(row.state) for row in rows)
    seconds = sum(row.duration or 0 for row in rows)
    counts = {
        "tests": str(len(rows)),
        "failures": str(kinds["failure"]),
        "errors": str(kinds["error"]),
        "skipped": str(kinds["skipped"]),
        "time": f"{seconds:.3f}",
    }
    element.attrib |= counts


def _add_case(
    suite: ET.Element, name: str, row: Row, output: Callable[[Row], Sequence[str]]
) -> None:
    called = " ".join(filter(None, (row.eval, row.arguments)))
    case = ET.SubElement(suite, "testcase", classname=_line(name), name=_line(called))
    if row.duration is not None:
        case.set("time", f"{row.duration:.3f}")
    properties = ET.SubElement(case, "properties")
    for key, value in _facts(row).items():
        ET.SubElement(properties, "property", name=key, value=_line(value))
    kind = _ELEMENTS.get(row.state)
    if kind is None:
        return
    found = ET.SubElement(case, kind, message=_line(row.reason or row.state))
    if kind != "skipped":
        found.set("type", row.state)
        found.text = "\n".join(map(_text, output(row)))


def _facts(row: Row) -> dict[str, str]:
    facts = {"attempts": str(row.attempts)}
    if row.attempts:
        facts["samples"] = str(row.samples)
    if score := main_score(row.final_report):
        facts |= {"score": str(score.value), "score_name": score.name}
    return facts


def _line(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", one_line(text))


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", harmless(text))

import re
from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

from runner.report.rows import Row
from runner.report.score import main_score
from runner.report.text import harmless, one_line

# What XML 1.0 has no way to hold, not even escaped. https://www.w3.org/TR/xml/#charsets
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The elements of a case that did not succeed, by the row's state.
_ELEMENTS = {"failed": "failure", "lost": "error", "running": "skipped", "to do": "skipped"}


def document(
    model: str, eval_set: str, rows: Sequence[Row], *, output: Callable[[Row], Sequence[str]]
) -> bytes:
    """Rows as JUnit XML: one suite, with a test case for each eval.

    A failed eval is a failure, a lost one an error, and one that is to do or runs is skipped.

    Args:
        model: as given.
        eval_set: as given.
        rows: of the plan, in its order.
        output: gives the last lines of what an eval printed.
    """
    name = f"{model}.{eval_set}"
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", name=_line(name))
    for row in rows:
        _add_case(suite, name, row, output)
    counts = {
        "tests": len(rows),
        "failures": len(suite.findall("*/failure")),
        "errors": len(suite.findall("*/error")),
        "skipped": len(suite.findall("*/skipped")),
    }
    seconds = sum(row.duration or 0 for row in rows)
    for element in (suites, suite):
        element.attrib |= {key: str(count) for key, count in counts.items()}
        element.set("time", f"{seconds:.3f}")
    ET.indent(suites)
    content: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _add_case(
    suite: ET.Element, name: str, row: Row, output: Callable[[Row], Sequence[str]]
) -> None:
    case = ET.SubElement(suite, "testcase", classname=_line(name), name=_line(row.eval))
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

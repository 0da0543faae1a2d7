from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import State
from runner.records.layout import Layout
from runner.records.state import EvalState
from runner.report.export import junit_xml
from runner.report.figures import Results

HOSTILE = [
    "</testcase><testcase name='x'/>",
    "]]><!-- & \" ' < >",
    "\x00\x01\x0b\x1b[31m\x7f\x85",
    "\ud800 \udfff \ufffe \uffff",
    "a\nb\r\nc\td",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "\u202eevil \U0001f600",
]
ROWS = [
    EvalState(
        eval="a.dev.v0",
        state=State.DONE,
        final_report={"accuracy": 0.25},
        samples=4,
        duration=1.5,
        attempts=2,
    ),
    EvalState(eval="b", state=State.FAILED, reason="exited with status 1", duration=2, attempts=1),
    EvalState(eval="c", state=State.LOST, reason="the engine went away", duration=0, attempts=3),
    EvalState(eval="d", state=State.TO_DO),
    EvalState(eval="e", state=State.RUNNING),
    EvalState(eval="f", state=State.DONE),
]


def results(model: str, rows: Sequence[EvalState]) -> Results:
    return Results(layout=Layout(root=Path("/nowhere"), model=model, eval_set="s"), rows=rows)


def parsed(rows: Sequence[EvalState], model: str = "m", tail: Sequence[str] = ()) -> ET.Element:
    """The suite, as a program reads it."""
    root = ET.fromstring(junit_xml([results(model, rows)], lambda *_: tail))  # noqa: S314 - our own
    (found,) = root
    assert root.tag == "testsuites"
    assert root.attrib.items() <= found.attrib.items()
    return found


def case(row: EvalState, tail: Sequence[str] = ()) -> ET.Element:
    """The one test case of a row."""
    (found,) = parsed([row], tail=tail)
    return found


def facts(found: ET.Element) -> dict[str, str]:
    """Its properties."""
    return {each.attrib["name"]: each.attrib["value"] for each in found.iter("property")}


def test_each_eval_is_a_test_case_in_the_order_of_the_plan() -> None:
    """And the counts are those of the cases."""
    suite = parsed(ROWS)
    assert suite.attrib == {
        "name": "m.s",
        "tests": "6",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
        "time": "3.500",
    }
    assert [found.get("name") for found in suite] == [row.eval for row in ROWS]
    assert {found.get("classname") for found in suite} == {"m.s"}


def test_test_cases_of_one_eval_have_names_of_their_own() -> None:
    """Its arguments tell them apart; programs that read it know a test case by its name."""
    rows = [
        EvalState(eval="a", state=State.DONE, arguments=text) for text in ("--seed 1", "--seed 2")
    ]
    assert [case.get("name") for case in parsed(rows)] == ["a --seed 1", "a --seed 2"]


def test_several_sets_are_several_suites() -> None:
    """And the whole has the sums of their counts."""
    several = [results("m", ROWS), results("n", ROWS[:2]), results("o", [])]
    root = ET.fromstring(junit_xml(several, lambda *_: ()))  # noqa: S314 - our own
    assert [suite.get("name") for suite in root] == ["m.s", "n.s", "o.s"]
    assert [suite.get("failures") for suite in root] == ["1", "1", "0"]
    assert root.attrib == {
        "tests": "8",
        "failures": "2",
        "errors": "1",
        "skipped": "2",
        "time": "7.000",
    }


def test_a_finished_eval_has_time_score_and_attempts() -> None:
    """And no element that would make it anything but a success."""
    found = case(ROWS[0])
    assert found.get("time") == "1.500"
    assert [each.tag for each in found] == ["properties"]
    assert facts(found) == {
        "attempts": "2",
        "samples": "4",
        "score": "0.25",
        "score_name": "accuracy",
    }


def test_a_failed_eval_is_a_failure_with_its_reason_and_output() -> None:
    """The end of what it printed is the text."""
    found = case(ROWS[1], tail=("Traceback", "\x1b[31mValueError\x1b[0m: <x>"))
    failure = found.find("failure")
    assert failure is not None
    assert failure.attrib == {"message": "exited with status 1", "type": "failed"}
    assert failure.text == "Traceback\nValueError: <x>"


def test_a_lost_eval_is_an_error() -> None:
    """It is not to blame."""
    error = case(ROWS[2]).find("error")
    assert error is not None
    assert error.attrib == {"message": "the engine went away", "type": "lost"}


@pytest.mark.parametrize("row", ROWS[3:5])
def test_what_has_not_ended_is_skipped(row: EvalState) -> None:
    """It has no time, and says which of the two it is."""
    found = case(row)
    skipped = found.find("skipped")
    assert skipped is not None
    assert skipped.attrib == {"message": row.state}
    assert "time" not in found.attrib
    assert facts(found) == {"attempts": "0"}


def test_a_set_without_evals_is_an_empty_suite() -> None:
    """A reader is given a file that it can read."""
    assert parsed([]).get("tests") == "0"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_names_and_reasons_hold_it_is_read_again(hostile: str) -> None:
    """No more and no fewer cases than evals, and nothing that XML cannot hold."""
    rows = [
        EvalState(
            eval=hostile,
            state=state,
            reason=hostile,
            final_report={hostile: 1},
            duration=1,
            attempts=1,
        )
        for state in (State.FAILED, State.LOST, State.DONE, State.TO_DO)
    ]
    suite = parsed(rows, model=hostile, tail=[hostile])
    assert [each.tag for each in suite] == ["testcase"] * 4
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == list("4111")
    assert len({found.get("name") for found in suite}) == 1


@given(text=st.text(st.characters()))
def test_no_text_is_too_strange(text: str) -> None:
    """An eval prints any bytes, and what they decode to is read again."""
    row = EvalState(eval=text, state=State.FAILED, reason=text, duration=1, attempts=1)
    assert parsed([row], model=text, tail=[text]).get("failures") == "1"


def test_text_that_harms_nobody_is_kept() -> None:
    """In every language, and with the signs that XML itself needs."""
    text = "ä < b & 'c' \"d\" 日本 \U0001f600"
    found = case(EvalState(eval=text, state=State.FAILED, reason=text, attempts=1), tail=[text])
    failure = found.find("failure")
    assert failure is not None
    assert (found.get("name"), failure.get("message"), failure.text) == (text, text, text)

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import State
from runner.records.state import EvalState
from runner.report.display import PlainConsole
from runner.report.table import print_table
from runner.report.text import command, group, inert
from tests.outcomes import failure, job, success

HOSTILE = [
    "::error::x",
    "  \t::add-mask::x",
    "\u00a0\u2003::stop-commands::x",
    "\u200b:\u200d:set-output name=a::x",
    "\ufeff::error file=a,line=1::x",
    "said ##[stop-commands]x",
    "###[error]x ##[add-mask]y",
    "#\u200d#\u00ad[error]x",
    "::endgroup::",
    "x\n::error::y",
    "x\r::error::y",
    "x%0A::error::y",
]


@pytest.fixture
def _actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


def obeyed(line: str) -> list[str]:
    """The commands that GitHub's runner could find in a line: of the new form, else of the old."""
    seen = "".join(each for each in line if unicodedata.category(each) not in {"Cf", "Cc"})
    new = re.findall(r"^\s*::([a-z-]+)[^:]*::", seen)
    return new or re.findall(r"##\[([a-z-]+)", seen)


def found(out: io.StringIO) -> list[str]:
    """All commands in what was printed."""
    return [name for line in out.getvalue().split("\n") for name in obeyed(line)]


def test_the_test_knows_a_command_when_it_sees_one() -> None:
    """Else the others would prove nothing; what is in no line of its own needs no escape."""
    assert all(any(map(obeyed, re.split("[\n\r]", text))) for text in HOSTILE[:-1])
    assert obeyed("fine: it is ::error::") == []


@pytest.mark.usefixtures("_actions")
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_an_eval_says_is_a_command(text: str) -> None:
    """Whether it is a name, a reason, a warning, a score or what it printed."""
    out = io.StringIO()
    console = PlainConsole(out)
    console.note(text)
    console.warn(text)
    console.started(job(text))
    report = {text: 1}
    console.ended(success(job(text), final_report=report, warnings=(text,)), again=False, tail=())
    outcome = failure(job(text), reason=text, console_log=text)
    console.ended(outcome, again=False, tail=(text, "    " + text))
    console.ended(outcome, again=True, tail=(text,))
    groups = ["group", "endgroup"]
    assert found(out) == ["warning", "error", *groups, *groups]


@pytest.mark.usefixtures("_actions")
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_table_is_a_command(text: str) -> None:
    """Also where a long name is folded, and continues at the beginning of a line."""
    rows = [
        EvalState(
            eval=f"{'n' * length}{text}",
            state=State.FAILED,
            reason=f"{'n' * length}{text}",
            final_report={text: 1},
            duration=1,
            attempts=1,
        )
        for length in range(90)
    ]
    out = io.StringIO()
    with group(out, text):
        print_table(out, rows)
    assert found(out) == ["group", "endgroup"]


@pytest.mark.usefixtures("_actions")
@given(text=st.text(st.sampled_from(":#[] \u200b\u00a0e") | st.characters(codec="utf-8")))
def test_an_inert_line_has_no_command(text: str) -> None:
    """Whatever it is made of; and what is inert is left as it is."""
    line = inert(text.replace("\n", " "))
    assert obeyed(line) == []
    assert inert(line) == line


@pytest.mark.parametrize("text", HOSTILE)
def test_elsewhere_nothing_is_a_command(text: str) -> None:
    """And so nothing need be changed."""
    assert inert(text) == text


def test_the_text_of_a_command_is_escaped() -> None:
    """As GitHub's runner reads it, so that a percent sign stays one."""
    assert command("error", "50%\n%0A\r") == "::error::50%25%0A%250A%0D"


def test_elsewhere_nothing_is_folded() -> None:
    """A group is a matter of GitHub's log."""
    out = io.StringIO()
    with group(out, "title"):
        print("inside", file=out)
    assert out.getvalue() == "inside\n"


@pytest.mark.usefixtures("_actions")
def test_the_output_of_a_failed_eval_is_folded() -> None:
    """More of it is there than elsewhere, and the error itself stands outside."""
    out = io.StringIO()
    console = PlainConsole(out)
    outcome = failure(job("a"), console_log="1.console.log", warnings=("odd",))
    console.ended(outcome, again=False, tail=("Traceback", "ValueError: 100%"))
    assert out.getvalue().splitlines() == [
        "::error::failure  a  (4.2 s): exited with status 1",
        "::group::what a printed last",
        "    | Traceback",
        "    | ValueError: 100%",
        "    whole output: 1.console.log",
        "::endgroup::",
        "    warning: odd",
    ]
    assert console.tail_lines == 50

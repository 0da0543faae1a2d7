import io

import pytest

from runner.report.display import PlainConsole
from tests.outcomes import failure, job, success


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(out: io.StringIO) -> PlainConsole:
    return PlainConsole(out)


def test_the_beginning_says_what_is_done_and_to_do(console: PlainConsole, out: io.StringIO) -> None:
    """A fresh run does not speak of an earlier one."""
    console.begin(total=3, done=1, todo=2)
    console.begin(total=1, done=0, todo=1)
    assert out.getvalue() == "3 evals, 1 of them finished before; 2 to run\n1 eval; 1 to run\n"


def test_a_success_is_one_line_with_score_and_count(
    console: PlainConsole, out: io.StringIO
) -> None:
    """The count continues from what was finished before."""
    console.begin(total=3, done=1, todo=2)
    console.started(job("a"))
    console.ended(success(job("a"), final_report={"accuracy": 0.5}), again=False, tail=())
    console.end()
    assert out.getvalue().splitlines()[1:] == [
        "started  a",
        "finished a  (4.2 s)  accuracy 0.5  [2/3]",
    ]


def test_a_failure_shows_why_and_where_the_rest_is(console: PlainConsole, out: io.StringIO) -> None:
    """The end of the output stands below it, indented."""
    outcome = failure(job("a"), console_log="evallogs/1_m_a.console.log", warnings=("odd",))
    console.ended(outcome, again=False, tail=("Traceback", "ValueError: x"))
    assert out.getvalue().splitlines() == [
        "error: failure  a  (4.2 s): exited with status 1",
        "    | Traceback",
        "    | ValueError: x",
        "    whole output: evallogs/1_m_a.console.log",
        "    warning: odd",
    ]


def test_an_attempt_that_is_made_again_is_no_error(console: PlainConsole, out: io.StringIO) -> None:
    """It may yet succeed."""
    console.ended(failure(job("a"), reason="the network broke"), again=True, tail=())
    assert out.getvalue() == "to be retried  a  (4.2 s): the network broke\n"


def test_github_actions_marks_errors_and_warnings(
    console: PlainConsole, out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In GitHub's own form they show in the summary of a workflow run."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    console.warn("line 2 cannot be read")
    console.ended(failure(job("a")), again=False, tail=())
    assert out.getvalue().splitlines() == [
        "::warning::line 2 cannot be read",
        "::error::failure  a  (4.2 s): exited with status 1",
    ]


def test_an_eval_cannot_speak_to_github_actions(
    console: PlainConsole, out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it prints, reports or names its logs, no line begins with a command of its own."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    command = "\r\n::stop-commands::x"
    report = {f"accuracy{command}": 1}
    console.ended(success(job("a"), final_report=report, warnings=(command,)), again=False, tail=())
    console.ended(failure(job("b"), reason=command), again=False, tail=(command, "::add-mask::a"))
    for line in out.getvalue().splitlines():
        assert not line.strip().startswith(("::stop-commands", "::add-mask"))


def test_an_eval_cannot_command_the_terminal(console: PlainConsole, out: io.StringIO) -> None:
    """What it printed is shown without its escape sequences."""
    console.ended(failure(job("a")), again=False, tail=("\x1b]0;title\x07\x1b[31mred\x1b[0m",))
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "red" in out.getvalue()


def test_the_end_of_an_output_is_short(console: PlainConsole) -> None:
    """It is shown in full, between the lines of other evals."""
    assert console.tail_lines == 5


def test_samples_are_not_asked_for(console: PlainConsole, out: io.StringIO) -> None:
    """A line for each would be too many, and each costs a connection to the engine."""
    assert not console.wants_samples
    console.progressed(job("a"), 1, 2)
    assert out.getvalue() == ""

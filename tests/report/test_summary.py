import io

import pytest

from runner.model import State
from runner.records.state import EvalState, RunState
from runner.report.table import print_table
from tests.outcomes import job
from tests.report.terminal import Terminal, plain

ROWS = [
    EvalState(
        eval="test-match.s1.simple-v0",
        state=State.DONE,
        final_report={"accuracy": 0.3333333},
        samples=3,
        duration=4.2,
        attempts=1,
    ),
    EvalState(
        eval="a-very-long-name-of-an-eval-that-somebody-made.with.many.parts-in-it.dev.v0",
        state=State.FAILED,
        reason="exited with status 1",
        duration=185,
        attempts=2,
    ),
    EvalState(eval="later", state=State.TO_DO),
]


def table(out: io.StringIO, rows: list[EvalState] = ROWS) -> list[str]:
    print_table(out, rows)
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """No line is wider, nothing is cut off, and every figure is there."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    lines = [plain(line) for line in table(Terminal())]
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    assert "…" not in text
    for word in ("accuracy 0.333", "4.2 s", "3 min 05 s", "exited with status 1", "to do"):
        assert word in text
    name = ROWS[1].eval
    assert (name in text) == (columns == 200)
    assert name[:20] in text


def test_where_nobody_looks_at_a_terminal_lines_are_wide_and_plain() -> None:
    """A long name stays in one piece, for `grep`."""
    long = EvalState(eval="n" * 60, state=State.DONE, attempts=1, duration=1)
    text = "\n".join(table(io.StringIO(), [*ROWS, long]))
    assert long.eval in text
    assert "\x1b" not in text


def test_ci_logs_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that CI systems set make no difference to a pipe."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    out = io.StringIO()
    table(out)
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Green is done, red has failed."""
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    print_table(out, ROWS)
    assert "\x1b[32mdone" in out.getvalue()
    assert "\x1b[1;31mfailed" in out.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """See https://no-color.org."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    print_table(out, ROWS)
    assert "\x1b[32m" not in out.getvalue()
    assert "31m" not in out.getvalue()


def test_what_never_ran_has_no_figures() -> None:
    """Zeros would look like results."""
    assert table(io.StringIO(), [ROWS[2]])[-1].split() == ["later", "to", "do"]


def test_names_from_a_container_are_harmless() -> None:
    """Neither a terminal nor GitHub Actions is commanded by an eval's report."""
    row = EvalState(
        eval="[bold]a[/bold]",
        state=State.DONE,
        final_report={"x\n::error::\x1b[2J": 1},
        attempts=1,
        duration=1,
    )
    lines = table(io.StringIO(), [row])
    assert "[bold]a[/bold]" in lines[-1] or "[bold]a[/bold]" in lines[-2]
    assert "\x1b" not in "".join(lines)
    assert not any(line.strip().startswith("::") for line in lines)


def test_a_long_name_breaks_at_its_punctuation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of it ends with a point, hyphen, slash or underscore, and none is lost."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = [plain(line) for line in table(Terminal(), [ROWS[1]])[2:-1]]
    pieces = [line.split()[0] for line in lines]
    assert len(pieces) > 1
    assert "".join(pieces) == ROWS[1].eval
    assert all(piece[-1] in "./_-" for piece in pieces[:-1])


def test_evals_that_ran_with_other_arguments_are_told_apart() -> None:
    """The table names the arguments of each row of an eval that stands there twice."""
    commands = [job("a").command, job("a", "--seed", "1").command, job("b").command]
    rows = RunState(model="m", eval_set="s").evals(commands)
    assert [row.arguments for row in rows] == ["without arguments", "--seed 1", ""]
    lines = table(io.StringIO(), rows)
    assert [line.strip() for line in lines][-4:-1:2] == ["without arguments", "--seed 1"]

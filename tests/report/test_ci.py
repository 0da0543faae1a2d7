import io
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from runner.commands.status import Forms, Shown, show
from runner.errors import EnvironmentFault, UsageError
from runner.host import STEP_SUMMARY
from runner.model import State
from runner.records.layout import Layout
from runner.records.state import EvalState, RunState
from runner.report.export import (
    SUMMARY_ROWS,
    add_summary,
    after_run,
    check_junit,
    step_summary,
    write_junit,
)
from runner.report.figures import Results
from tests.outcomes import failure, job

ROWS = [EvalState(eval="a", state=State.DONE, attempts=1), EvalState(eval="b", state=State.TO_DO)]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "progress", model="org/model", eval_set="s")


def failed(layout: Layout, console_log: str) -> str:
    """The text of a failure in JUnit XML, for an eval with such a console log on record."""
    path = layout.root / "junit.xml"
    row = EvalState(eval="a", state=State.FAILED, reason="r", attempts=1, console_log=console_log)
    write_junit(path, [Results(layout=layout, rows=[row])])
    found = ET.parse(path).find("*/*/failure")  # noqa: S314 - our own
    assert found is not None
    return found.text or ""


def test_junit_xml_is_written_whole(layout: Layout, tmp_path: Path) -> None:
    """In a folder that is made for it, over what was there, and nothing is left next to it."""
    path = tmp_path / "results" / "junit.xml"
    for rows in (ROWS[:1], ROWS):
        write_junit(path, [Results(layout=layout, rows=rows)])
        (suite,) = ET.parse(path).getroot()  # noqa: S314 - our own
        assert suite.get("name") == "org/model.s"
        assert suite.get("tests") == str(len(rows))
    assert os.listdir(path.parent) == ["junit.xml"]  # noqa: PTH208 - names alone


def test_a_failure_has_the_end_of_its_console_log(layout: Layout) -> None:
    """Not more than 50 lines, and where the whole is."""
    path = layout.console_log("1", "a")
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    lines = failed(layout, str(path.relative_to(layout.root))).split("\n")
    assert lines[:-1] == [f"line {number}" for number in range(50, 100)]
    assert lines[-1] == "whole output: evallogs/1_org/model_a.console.log"


@pytest.mark.parametrize("name", ["../secret", "evallogs/link", "{root}/../secret", "evallogs/no"])
def test_no_other_file_is_read_for_a_console_log(layout: Layout, name: str) -> None:
    """Records may come from another host, and a result may be published."""
    layout.evallogs.mkdir(parents=True)
    secret = layout.root.parent / "secret"
    secret.write_text("secret content")
    (layout.evallogs / "link").symlink_to(secret)
    name = name.format(root=layout.root)
    assert failed(layout, name) == f"whole output: {name}"


def test_a_summary_is_added_to_what_is_there(layout: Layout, tmp_path: Path) -> None:
    """Several runs in a job each get their part."""
    page = tmp_path / "summary.md"
    page.write_text("# Before\n")
    add_summary(page, [Results(layout=layout, rows=ROWS)])
    add_summary(page, [Results(layout=layout, rows=ROWS[:1])])
    text = page.read_text()
    assert text.startswith("# Before\n### `org/model` `s`\n\n1 of 2 evals finished, 1 to do\n")
    assert text.endswith("\n\n")
    assert text.count("###") == 2


def test_a_summary_is_not_too_long_for_github(layout: Layout, tmp_path: Path) -> None:
    """Even with the longest names and reasons, in letters of several bytes."""
    page = tmp_path / "summary.md"
    rows = [
        EvalState(
            eval=f"{number}{'語' * 500}",
            state=State.FAILED,
            reason="語" * 500,
            final_report={f"{number}{'語' * 500}": 1},
            attempts=1,
        )
        for number in range(SUMMARY_ROWS + 1)
    ]
    add_summary(page, [Results(layout=layout, rows=rows)])
    assert page.stat().st_size < 2**20
    assert "... and 1 more eval: 1 failed" in page.read_text()


def test_outside_of_actions_there_is_no_summary(tmp_path: Path) -> None:
    """The message names the variable."""
    assert step_summary({STEP_SUMMARY: str(tmp_path / "x")}) == tmp_path / "x"
    for environ in ({}, {STEP_SUMMARY: ""}):
        with pytest.raises(UsageError, match="GITHUB_STEP_SUMMARY is not set"):
            step_summary(environ)


def test_a_file_that_cannot_be_replaced_is_refused(tmp_path: Path) -> None:
    """A folder or a device; and one whose folder cannot be. Nothing is made yet."""
    (tmp_path / "file").touch()
    check_junit(None)
    check_junit(tmp_path / "file")
    check_junit(tmp_path / "new" / "file")
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(UsageError, match="is not a plain file; name one"):
            check_junit(path)
    with pytest.raises(UsageError, match=r"nothing can be written to .*/file; name another"):
        check_junit(tmp_path / "file" / "new" / "junit.xml")
    with pytest.raises(EnvironmentFault, match="cannot write "):
        check_junit(tmp_path / ("x" * 300))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_after_a_run_both_are_written(layout: Layout, tmp_path: Path) -> None:
    """Each where it was asked for."""
    junit, page = tmp_path / "junit.xml", tmp_path / "summary.md"
    environ = {STEP_SUMMARY: str(page)}
    assert after_run([Results(layout=layout, rows=ROWS)], junit=None, environ={}) == 0
    assert after_run([Results(layout=layout, rows=ROWS)], junit=junit, environ={}) == 0
    assert junit.exists()
    assert not page.exists()
    assert after_run([Results(layout=layout, rows=ROWS)], junit=None, environ=environ) == 0
    assert "1 of 2 evals finished" in page.read_text()


def test_results_that_cannot_be_written_are_said_and_counted(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says that the file is missing, and how to get it."""
    (tmp_path / "file").touch()
    junit = tmp_path / "file" / "junit.xml"
    assert after_run([Results(layout=layout, rows=ROWS)], junit=junit, environ={}) == 3
    said = capsys.readouterr().err
    assert said.startswith("Error: cannot create the folder ")
    assert said.endswith("; `evalset status` with --junit writes it, too\n")
    assert said.count("\n") == 1


def test_a_summary_that_cannot_be_written_is_a_warning(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody asked for it on the command line, and the variable may be that of another host."""
    page = tmp_path / "none" / "summary.md"
    state, environ = Results(layout=layout, rows=ROWS), {STEP_SUMMARY: str(page)}
    assert after_run([state], junit=None, environ=environ) == 0
    assert capsys.readouterr().err.startswith(f"warning: cannot write {page}: ")


def test_a_branchs_status_is_written_for_all_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite and a table for each model and eval set; the logs need not be here."""
    page = tmp_path / "summary.md"
    monkeypatch.setenv(STEP_SUMMARY, str(page))
    attempts = (failure(job("a"), console_log="evallogs/a.log"),)
    states = [RunState(model=model, eval_set="s", attempts=attempts) for model in ("m", "n")]
    shown = [
        Shown.of(
            Layout(root=tmp_path, model=state.model, eval_set=state.eval_set), state, state.evals()
        )
        for state in states
    ]
    junit = tmp_path / "junit.xml"
    show(shown, Forms(as_json=True, junit=junit, summary=True), out=io.StringIO())
    root = ET.parse(junit).getroot()  # noqa: S314 - our own
    assert [suite.get("name") for suite in root] == ["m.s", "n.s"]
    failures = [found.text for found in root.iter("failure")]
    assert failures == ["whole output: evallogs/a.log"] * 2
    assert page.read_text().count("\n0 of 1 eval finished, 1 failed\n") == 2


def test_a_file_for_junit_without_a_name_is_refused() -> None:
    """An empty variable in a script is the usual reason."""
    with pytest.raises(UsageError, match="--junit has no file name"):
        check_junit(Path(""))  # noqa: PTH201 - what click makes of an empty argument

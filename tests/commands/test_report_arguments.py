"""`evalset report` of evals that were run with several sets of arguments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Here
from tests.report.site.example import START, record_of, write_log, write_records

EVAL = "capital-cities.dev.v0"
TWO = ("--max_samples", "2")


def write_run(root: Path, model: str, *several: Sequence[str]) -> None:
    """Write a run of one eval for each set of arguments, the last one first, as it is planned."""
    commands, records = [], []
    for number, arguments in enumerate(reversed(several)):
        command = ["oaieval", model, EVAL, *arguments]
        samples = int(arguments[1]) if arguments else 4
        record = record_of(command, f"{number}{model}", "host", START, 1)
        log = f"evallogs/{number}_{model}_{EVAL}.jsonl"
        report = write_log(root / log, EVAL, model, samples, 0.5)
        commands.append(command)
        records.append(record | {"final_report": report, "logs": [log], "samples": samples})
    write_records(root, model, "mine", commands, commands, records)


def compared(here: Here) -> dict[str, Any]:
    """The one comparison of what the progress directory has."""
    ended = here.evalset("report", "--format", "json")
    assert (ended.returncode, ended.stderr) == (0, "")
    (found,) = json.loads(ended.stdout)["comparisons"]
    return dict(found)


@pytest.fixture
def bare(here: Here) -> Here:
    """A progress directory with nothing in it."""
    here.progress.unlink()
    return here


def test_runs_with_the_same_arguments_are_compared(bare: Here) -> None:
    """Not those that come first in their plans."""
    write_run(bare.folder / "progress", "dummy", (), TWO)
    write_run(bare.folder / "progress", "dummy2", ())
    found = compared(bare)
    (line,) = found["evals"]
    assert (line["eval"], line["samples"]) == (EVAL, 4)
    assert (line["before_arguments"], line["after_arguments"]) == ([], [])
    assert (line["same_arguments"], line["note"], found["same_arguments"]) == (True, "", True)


def test_json_says_where_arguments_differ(bare: Here) -> None:
    """Of the eval, and of the comparison as a whole."""
    write_run(bare.folder / "progress", "dummy", TWO)
    write_run(bare.folder / "progress", "dummy2", ())
    found = compared(bare)
    (line,) = found["evals"]
    assert (line["eval"], line["samples"]) == (EVAL, 2)
    assert (line["before_arguments"], line["after_arguments"]) == ([*TWO], [])
    assert (line["same_arguments"], found["same_arguments"]) == (False, False)
    assert line["note"] == "not the same arguments"


def test_pages_say_where_arguments_differ(bare: Here) -> None:
    """The overview in row and cells, the comparison in its first lines and in the row."""
    write_run(bare.folder / "progress", "dummy", TWO)
    write_run(bare.folder / "progress", "dummy2", ())
    assert bare.evalset("report").returncode == 0
    overview = (bare.folder / "report/index.html").read_text()
    for words in ("not the same arguments", "--max_samples 2", "without arguments"):
        assert f"<small>{words}</small>" in overview
    (page,) = (bare.folder / "report").glob("compare/*.html")
    assert "1 eval was not run with the same arguments in both." in page.read_text()
    told = f"{EVAL} --max_samples 2 \N{RIGHTWARDS ARROW} without arguments"
    assert told in page.read_text()


def test_markdown_tells_rows_of_one_eval_apart(bare: Here) -> None:
    """By their arguments, below its name."""
    write_run(bare.folder / "progress", "dummy", (), TWO)
    text = bare.evalset("report", "--format", "md").stdout
    cells = [line.split(" | ")[0] for line in text.splitlines() if EVAL in line]
    assert cells == [f"| `{EVAL}`<br>`--max_samples 2`", f"| `{EVAL}`<br>`without arguments`"]

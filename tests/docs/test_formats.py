"""The answers files that docs/formats.md describes, and its examples."""

import subprocess
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from runner.records.answers import (
    Answer,
    AnswersLine,
    Failed,
    Given,
    Request,
    Returned,
    Sent,
    Stopped,
)
from runner.records.spending import read_sums
from tests.answered import START, Answered
from tests.docs.code_blocks import BLOCKS
from tests.docs.page import blocks, rows, section, spans

TEXT = section("docs/formats.md", "answers")
KINDS = (Request, Sent, Answer, Given, Returned, Failed, Stopped)
JQ = [
    typed.text
    for block in BLOCKS
    for typed in block.typed
    if block.page == "docs/formats.md" and typed.name.startswith("jq ")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_of_a_line_is_described(kind: type[msgspec.Struct]) -> None:
    """In its order; what is left out where it is as usual is what the table says it is."""
    text = TEXT.partition(f"\n### {kind.__name__.lower()}\n")[2].partition("\n### ")[0]
    assert [spans(row[0])[0] for row in rows(text)] == list(kind.__struct_encode_fields__)
    usual = {spans(row[0])[0] for row in rows(text) if row[2].endswith(")")}
    optional = {
        field.name
        for field in msgspec.structs.fields(kind)
        if not field.required and field.name != "version"
    }
    if kind is Sent:
        optional.discard("reserved")  # each of its own fields has one
        usual.discard("reserved")
    assert usual == optional


def test_the_lines_shown_are_as_they_are_written(tmp_path: Path) -> None:
    """One of each kind, each with nothing that would be left out; together they make sense."""
    (example,) = blocks(TEXT, "jsonl")
    lines = example.splitlines()
    read = [msgspec.json.decode(line, type=AnswersLine) for line in lines]
    assert [type(line) for line in read] == list(KINDS)
    assert [msgspec.json.encode(line).decode() for line in read] == lines
    path = tmp_path / "shown"
    path.write_text(example)
    found = read_sums(path)
    assert found.damaged == []
    assert (found.totals.answers, found.totals.replayed, found.totals.failed) == (1, 0, 1)


@pytest.fixture
def progress(tmp_path: Path) -> Path:
    """A folder with a progress directory, in which two evals have answers."""
    for place, name in enumerate(("a.v0", "b.v0")):
        one = Answered(
            tmp_path / "progress",
            ["oaieval", "gpt-4", name],
            model="gpt-4",
            eval_set="test-basic",
            start=START + timedelta(minutes=place),
        )
        one.paid(2, usd=0.25, seconds=1 + place)
        one.replayed()
        one.sent()
        one.failed()
        one.failed(billed=None)
    return tmp_path


AT = "2026-03-02T09:0"

EXPECTED = {
    "add": ["1"],
    "sort_by": [f"2\t{AT}1:03+00:00\t", f"2\t{AT}1:06+00:00\t", f"1\t{AT}0:02+00:00\t"],
    "fromjson": ["So."] * 4,
    "group_by": ["second\t2"],
    "INDEX": [f"{AT}0:05+00:00", f"{AT}0:07+00:00", f"{AT}1:07+00:00", f"{AT}1:09+00:00"],
}


@pytest.mark.tools
@pytest.mark.parametrize("line", JQ)
def test_the_jq_examples_give_what_they_say(line: str, progress: Path) -> None:
    """Of all the files of an eval set."""
    ended = subprocess.run(
        ["bash", "-c", line], cwd=progress, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    ((_, expected),) = [item for item in EXPECTED.items() if item[0] in line]
    assert ended.stdout.splitlines()[: len(expected)] == expected


def test_each_jq_example_is_run() -> None:
    """There is something to expect of each, and no more."""
    assert len(JQ) == len(EXPECTED)

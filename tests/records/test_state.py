from runner.records.state import Reader
from runner.report.markdown import BranchPage

START = "oaievalset/m.{}.progress.txt"
LINE = b'["oaieval", "m", "%s"]\n'


def test_what_has_nothing_new_is_not_read_again() -> None:
    """A branch may have many eval sets, and a snapshot is of one of them."""
    reader = Reader()
    contents = {START.format(name): LINE % b"x" for name in ("s", "t")}
    first = reader.parts(contents, source="branch")
    contents[START.format("t")] += LINE % b"y"
    again = reader.parts(contents, source="branch")
    assert again[0] is first[0]
    assert [len(part.finished.commands) for part in again] == [1, 2]
    contents[START.format("t")] = LINE % b"z"
    assert reader.parts(contents, source="branch")[1].finished.commands == (("oaieval", "m", "z"),)


def test_a_page_has_what_is_new_and_what_is_not() -> None:
    """It is the one that is made of the same contents at once."""
    reader, page = Reader(), BranchPage()
    contents = {START.format(name): LINE % b"x" for name in ("s", "t")}
    page.of(reader.parts(contents, source="branch"))
    contents[START.format("t")] += LINE % b"y"
    made = page.of(reader.parts(contents, source="branch"))
    assert made == BranchPage().of(Reader().parts(contents, source="branch"))
    assert b"2 of 2 finished" in made


def test_rows_of_one_eval_show_their_arguments_on_a_page() -> None:
    """An eval that ran with one set of arguments shows none."""
    again = b'["oaieval", "m", "x", "--seed", "3"]\n'
    contents = {START.format("s"): LINE % b"x" + again + LINE % b"y"}
    made = BranchPage().of(Reader().parts(contents, source="branch")).decode()
    cells = [line.split(" | ")[0] for line in made.splitlines() if line.startswith("| `")]
    assert cells == ["| `x`<br>`without arguments`", "| `x`<br>`--seed 3`", "| `y`"]

import msgspec
import pytest

from runner.plan.pins import RunFile
from runner.records.state import RunState, StateReader
from runner.report.markdown import BranchPage

FOLDER = ("--registry_path", "/registry/0")
SEED = ("--seed", "1")
START = "oaievalset/m.{}.progress.txt"
LINE = b'["oaieval", "m", "%s"]\n'


def shown(*commands: tuple[str, ...], ours: bool = True) -> str:
    """How a page says to resume a run of these commands."""
    run = RunFile(
        run="r",
        model="m",
        eval_set="s",
        image="my/evals:1",
        image_id="sha256:1",
        image_fingerprint="f" if ours else None,
        commands=commands,
        limits={},
    )
    contents = {
        "oaievalset/m.s.run.json": msgspec.json.encode(run),
        "oaievalset/m.s.progress.txt": b"",
    }
    page = BranchPage().of(RunState.from_branch(contents, source="branch")).decode()
    (line,) = (line for line in page.splitlines() if line.startswith("To resume: "))
    return line.removeprefix("To resume: ")


@pytest.mark.parametrize(
    ("commands", "line"),
    [
        ([("oaieval", "m", "a")], "`evalset run m s --snapshot`"),
        (
            [("oaieval", "m", "a", *SEED), ("oaieval", "m", "b", *SEED)],
            "`evalset run m s --snapshot --seed 1`",
        ),
        ([("my-eval", "m", "a")], "`evalset run m s --snapshot --run-command my-eval`"),
        (
            [("oaieval", "m", "a", *SEED, *FOLDER)],
            "`evalset run m s --snapshot --seed 1`, with its registry folders (`--registry-path`)",
        ),
    ],
)
def test_a_branch_has_the_command_that_resumes(commands: list[tuple[str, ...]], line: str) -> None:
    """With all that another host could not know."""
    assert shown(*commands) == line


def test_an_image_of_the_users_is_named() -> None:
    """Ours is the default."""
    assert shown(("oaieval", "m", "a"), ours=False) == (
        "`evalset run m s --snapshot --image my/evals:1`"
    )


def test_a_page_has_what_is_new_and_what_is_not() -> None:
    """It is the one that is made of the same contents at once."""
    reader, page = StateReader(), BranchPage()
    contents = {START.format(name): LINE % b"x" for name in ("s", "t")}
    page.of(RunState.from_branch(contents, source="branch", reader=reader))
    contents[START.format("t")] += LINE % b"y"
    made = page.of(RunState.from_branch(contents, source="branch", reader=reader))
    assert made == BranchPage().of(RunState.from_branch(contents, source="branch"))
    assert b"2 of 2 evals finished" in made


def test_rows_of_one_eval_show_their_arguments_on_a_page() -> None:
    """An eval that ran with one set of arguments shows none."""
    again = b'["oaieval", "m", "x", "--seed", "3"]\n'
    contents = {START.format("s"): LINE % b"x" + again + LINE % b"y"}
    made = BranchPage().of(RunState.from_branch(contents, source="branch")).decode()
    cells = [line.split(" | ")[0] for line in made.splitlines() if line.startswith("| `")]
    assert cells == ["| `x`<br>`without arguments`", "| `x`<br>`--seed 3`", "| `y`"]

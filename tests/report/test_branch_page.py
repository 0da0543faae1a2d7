import msgspec
import pytest

from runner.plan.pins import RunFile
from runner.records.state import Reader
from runner.report.markdown import BranchPage

FOLDER = ("--registry_path", "/registry/0")
SEED = ("--seed", "1")


def shown(*commands: tuple[str, ...], ours: bool = True) -> str:
    """How a page says to go on with a run of these commands."""
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
    page = BranchPage().of(Reader().parts(contents, source="branch")).decode()
    (line,) = (line for line in page.splitlines() if line.startswith("To go on: "))
    return line.removeprefix("To go on: ")


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
def test_a_branch_has_the_command_that_goes_on(commands: list[tuple[str, ...]], line: str) -> None:
    """With all that another host could not know."""
    assert shown(*commands) == line


def test_an_image_of_the_users_is_named() -> None:
    """Ours is the default."""
    assert shown(("oaieval", "m", "a"), ours=False) == (
        "`evalset run m s --snapshot --image my/evals:1`"
    )

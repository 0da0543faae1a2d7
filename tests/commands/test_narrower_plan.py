"""Whoever looks at a run of a part of an eval set sees that it was a part; no engine is needed."""

import json

import pytest

from tests.branch.desk import git
from tests.commands.conftest import LINES, Here

STATUS = ("status", "dummy", "mine")
ON_BRANCH = (*STATUS, "--branch", "evalset/dummy.mine")
PART = "2 of 2 evals finished; the last plan has 2 of the eval set's 7 evals\n"


def plan(here: Here, **changes: object) -> None:
    """Put a run on record that planned the two finished evals."""
    run = {"run": "r", "model": "dummy", "eval_set": "mine", "image": "i", "image_id": "i"}
    content = run | {"runner": "0", "commands": [json.loads(line) for line in LINES], "limits": {}}
    here.put("progress/oaievalset/dummy.mine.run.json", json.dumps(content | changes))
    assert here.evalset("snapshot", "take", "dummy", "mine").returncode == 0


@pytest.mark.parametrize("where", [STATUS, ON_BRANCH])
def test_status_says_what_the_last_plan_is_of_the_set(here: Here, where: tuple[str, ...]) -> None:
    """As text, as JSON and as Markdown; that all of the plan is finished is true all the same."""
    plan(here, in_eval_set=7)
    page = here.put("summary.md", "")
    ended = here.evalset(*where, "--summary", "--check", GITHUB_STEP_SUMMARY=str(page))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith(f"\n{PART}")
    assert "\n\n2 of 2 evals finished; the last plan has 2 of the eval set's 7 evals\n\n" in (
        page.read_text()
    )
    found = json.loads(here.evalset(*where, "--json").stdout)
    assert (found["total"], found["planned"], found["in_eval_set"]) == (2, 2, 7)


@pytest.mark.parametrize("size", [{"in_eval_set": 2}, {"in_eval_set": None}, {}])
@pytest.mark.parametrize("where", [STATUS, ON_BRANCH])
def test_of_a_whole_set_nothing_is_said(
    here: Here, where: tuple[str, ...], size: dict[str, int | None]
) -> None:
    """Nor where the size is not known, as in a file of an earlier version."""
    plan(here, **size)
    assert here.evalset(*where).stdout.endswith("\n2 of 2 evals finished\n")
    found = json.loads(here.evalset(*where, "--json").stdout)
    assert (found["planned"], found["in_eval_set"]) == (2, size.get("in_eval_set"))


def test_without_a_plan_nothing_is_said_of_one(here: Here) -> None:
    """What upstream ran has none."""
    assert here.evalset(*STATUS).stdout.endswith("\n2 of 2 evals finished\n")
    found = json.loads(here.evalset(*STATUS, "--json").stdout)
    assert (found["planned"], found["in_eval_set"]) == (None, None)


def test_the_page_of_a_branch_and_a_report_say_it_too(here: Here) -> None:
    """Both show the same table."""
    plan(here, in_eval_set=7)
    line = "\n2 of 2 evals finished; the last plan has 2 of the eval set's 7 evals\n"
    shown = here.evalset("report", "dummy", "mine", "--format", "md")
    assert line in shown.stdout
    repository = here.folder / "progress/.snapshots.git"
    assert line in git(repository, "show", "evalset/dummy.mine:README.md")

"""What can be said of the workflows and the action without running them; none needs an engine."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.actions.conftest import BIN
from tests.actions.files import ACTION, FOLDER, WORKFLOW, read, steps

FILES = sorted([*FOLDER.glob("workflows/*.yml"), *FOLDER.glob("actions/*/action.yml")])
# They publish evalset and its pages, and need more actions for that.
PUBLISHING = {FOLDER / "workflows/release.yml", FOLDER / "workflows/docs.yml"}
# What a step finds set in any case.
OF_THE_RUNNER = [
    *("GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_SERVER_URL"),
    *("PATH", "RUNNER_TEMP"),
]
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def name_of(path: Path) -> str:
    """The name of a test's file."""
    return str(path.relative_to(FOLDER))


def test_the_security_linter_finds_nothing(tmp_path: Path) -> None:
    """Zizmor knows template injection, broad permissions, loose pins, and leaked credentials."""

    def lint(path: Path) -> "subprocess.CompletedProcess[str]":
        line = [str(BIN / "zizmor"), "--offline", "--no-progress", "--strict-collection", str(path)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    found = lint(FOLDER)
    assert found.returncode == 0, found.stdout + found.stderr
    bad = tmp_path / "bad.yml"
    text = (FOLDER / "workflows/evalset.yml").read_text()
    bad.write_text(text.replace('evalset matrix "', 'evalset matrix ${{ inputs.shards }} "'))
    assert "template-injection" in lint(bad).stdout


def test_the_workflows_are_of_githubs_form(tmp_path: Path) -> None:
    """Act has the schema of workflows, and refuses a key that is none."""
    shutil.copytree(FOLDER, tmp_path / ".github")
    line = [str(BIN / "act"), "--validate", "--strict", "--workflows", ".github/workflows"]
    own = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def validate() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            line, cwd=tmp_path, env=own, capture_output=True, text=True, check=False
        )

    ended = validate()
    assert ended.returncode == 0, ended.stderr
    bad = tmp_path / ".github/workflows/bad.yml"
    bad.write_text("on: push\njobs: {a: {runs-on: x, stepps: []}}\n")
    assert validate().returncode != 0


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_script_is_clean_shell(path: Path) -> None:
    """And uses no variable but those that its step or the runner sets."""
    for _, step in steps(read(path)):
        variables = " ".join([*step.get("env", ()), *OF_THE_RUNNER])
        found = subprocess.run(
            [BIN / "shellcheck", "--shell", "bash", "--enable", "check-unassigned-uppercase", "-"],
            input=f"export {variables}\nread -r {variables}\n{step.get('run', '')}",
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_script_has_an_expression_in_it(path: Path) -> None:
    """What GitHub would put there is put into a variable, where the shell takes it for text."""
    for _, step in steps(read(path)):
        assert not EXPRESSION.search(step.get("run", "")), step


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_actions_are_pinned_by_hash(path: Path) -> None:
    """With the version next to it. The checkout is the only action in what others use."""
    for line in re.findall(r"uses: (.+)", path.read_text()):
        if not line.startswith("./"):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
            assert line.startswith("actions/checkout@") or path in PUBLISHING


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_checkout_keeps_no_credentials(path: Path) -> None:
    """No later step can use them."""
    for _, step in steps(read(path)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_only_the_job_that_pushes_may_write() -> None:
    """And it may write nothing but content."""
    assert WORKFLOW["permissions"] == {}
    assert {name: job["permissions"] for name, job in WORKFLOW["jobs"].items()} == {
        "plan": {"contents": "read"},
        "run": {"contents": "write"},
        "report": {"contents": "read"},
    }


def test_by_hand_and_by_another_workflow_it_takes_the_same() -> None:
    """But for what follows ten inputs; GitHub's form has room for no more in some versions."""
    started, called = (WORKFLOW["on"][event] for event in ("workflow_dispatch", "workflow_call"))
    assert list(started["inputs"].items()) == list(called["inputs"].items())[:10]


def test_what_is_selected_is_what_is_planned_and_run() -> None:
    """And run and report look at the same branch, which sets the group of its jobs apart."""
    given = {step["name"]: step.get("env", {}) for _, step in steps(WORKFLOW) if "name" in step}
    plan, run = given["Cut the eval sets into shards"], given["Run the shard"]
    report = given["Report what all shards have finished"]
    for name in ("select", "exclude"):
        variable = f"EVALSET_{name.upper()}"
        assert plan[variable] == run[variable] == f"${{{{ inputs.{name} }}}}"
    branch = "${{ inputs.snapshot-branch }}"
    assert run["EVALSET_SNAPSHOT_BRANCH"] == report["EVALSET_SNAPSHOT_BRANCH"] == branch
    group = WORKFLOW["jobs"]["run"]["concurrency"]["group"]
    assert group.startswith("${{ inputs.snapshot-branch || 'evalset' }}/")


def test_every_input_and_secret_is_used() -> None:
    """And none is used that is not declared."""
    called = WORKFLOW["on"]["workflow_call"]
    text = (FOLDER / "workflows/evalset.yml").read_text()
    assert set(re.findall(r"\binputs\.([\w-]+)", text)) == set(called["inputs"])
    assert set(re.findall(r"\bsecrets\.([\w-]+)", text)) == set(called["secrets"])
    text = (FOLDER / "actions/evalset/action.yml").read_text()
    assert set(re.findall(r"\binputs\.([\w-]+)", text)) == set(ACTION["inputs"])


def test_steps_of_one_name_are_one_step() -> None:
    """Jobs repeat them, since a called workflow has no files of its own to share them by."""
    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    for job, step in steps(WORKFLOW):
        if "name" in step:
            earlier = seen.setdefault(step["name"], (job, step))
            assert earlier == (job, step) or (earlier[0] != job and earlier[1] == step)

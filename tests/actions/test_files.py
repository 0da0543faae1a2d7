"""What can be said of the workflows and the action without running them; none needs an engine."""

import base64
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import runner
from tests.actions.conftest import BIN
from tests.actions.files import ACTION, FOLDER, ROOT, WORKFLOW, read, run_script, script, steps

FILES = sorted([*FOLDER.glob("workflows/*.yml"), *FOLDER.glob("actions/*/action.yml")])
# It publishes evalset itself, and so needs further actions; test_release.py looks at them.
OURS_ALONE = FOLDER / "workflows/release.yml"
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


@pytest.mark.parametrize("path", sorted({*FILES} - {OURS_ALONE}), ids=name_of)
def test_actions_are_pinned_by_hash(path: Path) -> None:
    """With the version beside it; and the only one is the checkout, which keeps no credentials."""
    for line in re.findall(r"uses: (.+)", path.read_text()):
        assert re.fullmatch(r"actions/checkout@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    for _, step in steps(read(path)):
        if "uses" in step:
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


def test_the_token_goes_to_githubs_host_and_to_no_other(tmp_path: Path) -> None:
    """It is in a file of ours alone, and its other form is hidden in logs, too."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    url = "https://github.example/me/evals"
    subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    ended = run_script(
        script("Give evalset a repository to push from"),
        tmp_path,
        TOKEN="a-token",  # noqa: S106 - made up
        GITHUB_SERVER_URL="https://github.example",
    )
    basic = base64.b64encode(b"x-access-token:a-token").decode()
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"::add-mask::{basic}\n", "")
    repository = tmp_path / "snapshots.git"

    def header(url: str) -> str:
        line = ["git", "config", "--get-urlmatch", "http.extraheader", url]
        found = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=False)
        return found.stdout.strip()

    assert header(url) == f"AUTHORIZATION: basic {basic}"
    assert header("https://github.example.org/me/evals") == ""
    assert (repository / "config").stat().st_mode & 0o077 == 0
    assert run_script("git remote get-url origin", repository).stdout.strip() == url


def test_the_action_gives_each_use_of_it_its_own_repository(tmp_path: Path) -> None:
    """So that a job may use it twice; each pushes with one header of its own."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    url = "https://github.example/me/evals"
    subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    outputs = tmp_path / "outputs"
    for token in ("a-token", "another"):
        ended = run_script(
            script("Give evalset a repository to push from", ACTION),
            tmp_path,
            TOKEN=token,
            GITHUB_SERVER_URL="https://github.example",
            GITHUB_OUTPUT=str(outputs),
        )
        assert ended.returncode == 0, ended.stderr
    folders = [Path(line.removeprefix("folder=")) for line in outputs.read_text().splitlines()]
    assert len(set(folders)) == 2
    for folder in folders:
        assert (folder / "config").read_text().count("extraheader") == 1
        assert folder.stat().st_mode & 0o077 == 0


def test_the_action_installs_the_same_once(tmp_path: Path) -> None:
    """And anew what is something else, with nothing of the other left."""
    text = script("Install evalset", ACTION)
    python = tmp_path / "python3"
    python.write_text(
        '#!/bin/sh\nmkdir -p "$3/bin" && printf \'#!/bin/sh\\necho pip "$4"\\n\' > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)

    def install(requirement: str) -> str:
        ended = run_script(
            text,
            tmp_path,
            path=str(tmp_path),
            REQUIREMENT=requirement,
            GITHUB_ACTION_PATH="/action/.github/actions/evalset",
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    came_with = "pip /action/.github/actions/evalset/../../..\n"
    asked = ("", "", "other", "other", "installed", "")
    assert [install(one) for one in asked] == [came_with, "", "pip other\n", "", "", came_with]


def test_evalset_is_installed_for_the_steps_that_follow(tmp_path: Path) -> None:
    """From a checkout, or from whatever else pip takes; or not at all where it is there."""
    text = script("Install evalset")
    path = tmp_path / "path"
    path.touch()
    assert (
        run_script(text, tmp_path, GITHUB_PATH=str(path), REQUIREMENT="installed").returncode == 0
    )
    assert path.read_text() == ""
    ended = run_script(text, tmp_path, GITHUB_PATH=str(path), REQUIREMENT=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    ended = run_script("evalset --version", tmp_path, path=path.read_text().strip())
    assert ended.stdout == f"evalset {runner.__version__}\n"


def test_pip_gets_to_read_a_private_evalset(tmp_path: Path) -> None:
    """With the token for it, which goes to GitHub's host alone; without one it has no header."""
    git = "git config --get-urlmatch http.extraheader"
    asking = f"{git} https://github.example/o/evalset; {git} https://github.example.org/o; true"
    python = tmp_path / "python3"
    python.write_text(
        f'#!/bin/sh\nmkdir -p "$3/bin" && echo "{asking}" > "$3/bin/pip" && chmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)
    for token, header in (
        ("a-token", base64.b64encode(b"x-access-token:a-token").decode()),
        ("", ""),
    ):
        ended = run_script(
            script("Install evalset"),
            tmp_path,
            path=str(tmp_path),
            REQUIREMENT="git+https://github.example/o/evalset",
            TOKEN=token,
            GITHUB_SERVER_URL="https://github.example",
            GITHUB_PATH=str(tmp_path / "path"),
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        shown = f"::add-mask::{header}\nAUTHORIZATION: basic {header}\n" if token else ""
        assert ended.stdout == shown


def test_a_job_whose_image_came_out_different_stops(tmp_path: Path) -> None:
    """Its evals would not be those that the others run."""
    (tmp_path / "evalset").write_text('#!/bin/sh\n[ "$2" = build ] || echo "fingerprint: new"\n')
    (tmp_path / "evalset").chmod(0o755)
    text = script("Build the image that was planned with")
    assert run_script(text, tmp_path, path=str(tmp_path), PLANNED="new").returncode == 0
    ended = run_script(text, tmp_path, path=str(tmp_path), PLANNED="old")
    assert ended.returncode == 1
    assert ended.stdout.startswith("::error::the image built here (new) is not the one")
    assert ended.stdout.count("\n") == 1


PUSHING = """#!/bin/sh
case $1 in
  push) echo "evalset: $PUSHED size: 1234" ;;
  image) echo me/evals@sha256:of-another-push ;;
esac
"""


def test_an_image_of_docker_io_is_handed_on_by_its_digest(tmp_path: Path) -> None:
    """Docker itself leaves that host out of the name. A push that names no digest is an error."""
    for name, text in (("docker", PUSHING), ("evalset", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    digest = f"sha256:{'ab' * 32}"
    outputs = tmp_path / "outputs"

    def push(said: str) -> "subprocess.CompletedProcess[str]":
        return run_script(
            script("Make the image, and push it if there is an image registry"),
            tmp_path,
            path=str(tmp_path),
            IMAGE="",
            IMAGE_REGISTRY="docker.io/me/evals",
            GITHUB_OUTPUT=str(outputs),
            PUSHED=said,
        )

    assert push(f"digest: {digest}").returncode == 0
    assert outputs.read_text() == f"image=docker.io/me/evals@{digest}\n"
    ended = push("nothing")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == (
        "::error::docker push docker.io/me/evals:evalset named no digest for the jobs to pull"
    )


PAGE = (ROOT / "docs/github-actions.md").read_text()


def test_the_tables_of_inputs_are_complete() -> None:
    """With the defaults that they have."""
    table = PAGE.partition("<!-- inputs -->")[2].partition("<!-- /inputs -->")[0]
    shown = re.findall(r"^\| `([\w-]+)` \| (?:`(.*?)`)? ?\|", table, re.MULTILINE)
    inputs = WORKFLOW["on"]["workflow_call"]["inputs"]
    assert shown == [(name, about.get("default", "")) for name, about in inputs.items()]
    section = PAGE.partition("\n## One step\n")[2].partition("\n## ")[0]
    assert set(ACTION["inputs"]) <= set(re.findall(r"`([\w-]+)`", section))


def test_the_examples_call_what_is_there() -> None:
    """With inputs and secrets that the workflow and the action take, and all that they need."""
    examples = [
        yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts only
        for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    ]
    called = [job for example in examples for job in example["jobs"].values() if "uses" in job]
    used = [
        step
        for example in examples
        for _, step in steps(example)
        if "/.github/actions/evalset@" in step.get("uses", "")
    ]
    assert len(called) == len(used) == 1
    about = WORKFLOW["on"]["workflow_call"]
    assert called[0]["uses"].partition("/evalset/")[2] == ".github/workflows/evalset.yml@COMMIT"
    assert set(called[0]["secrets"]) <= set(about["secrets"])
    assert called[0]["permissions"] == WORKFLOW["jobs"]["run"]["permissions"]
    for given, inputs in (
        (called[0]["with"], about["inputs"]),
        (used[0]["with"], ACTION["inputs"]),
    ):
        needed = {name for name, about in inputs.items() if about.get("required") == "true"}
        assert needed <= set(given) <= set(inputs)

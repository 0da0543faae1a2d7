"""Our workflow as `act` runs it: jobs as processes of this machine, with the real engine."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from runner.host import PLACEHOLDER_KEY
from tests.actions.conftest import BIN, LOGIN, Repository, checkout_action, forget_images
from tests.actions.files import ROOT, run_script, script
from tests.conftest import TEST_IMAGE, until
from tests.images import with_small_recipe

pytestmark = pytest.mark.docker

INPUTS = {
    "model": "m",
    "eval_set": "s",
    "registry_path": "registry",
    "image": TEST_IMAGE,
    "evalset": "installed",
    "arguments": "--run-command /bin/program --network none --memory 64m --jobs 1",
}


@pytest.mark.parametrize(
    "name", ["model", "eval_set", "shards", "per_shard", "image", "evalset", "registry_path"]
)
def test_an_input_runs_no_command(repository: Repository, name: str) -> None:
    """It is text for evalset, and nothing for the shell or for the workflow's expressions."""
    repository.registry("succeed.a")
    marker = repository.place.folder / "marker"
    hostile = f"\";touch${{IFS}}{marker};$(touch${{IFS}}{marker})`touch${{IFS}}{marker}`'"
    ended = repository.run("--job", "plan", **(INPUTS | {name: hostile}))
    assert not marker.exists()
    if name == "model":  # which may have any name
        (line,) = [line for line in ended.output if line.startswith("{")]
        assert json.loads(line)["include"][0]["model"] == hostile
    else:
        assert ended.status == 1


def test_the_plan_has_a_job_for_each_shard(repository: Repository) -> None:
    """For each model and eval set, and none without an eval."""
    repository.registry("succeed.a", "succeed.b", "succeed.c")
    ended = repository.run("--job", "plan", **(INPUTS | {"model": "m n", "shards": "2"}))
    assert ended.status == 0, ended.log
    (line,) = [line for line in ended.output if line.startswith("{")]
    assert [(job["model"], job["shard"]) for job in json.loads(line)["include"]] == [
        ("m", "1/2"),
        ("m", "2/2"),
        ("n", "1/2"),
        ("n", "2/2"),
    ]


def test_a_killed_shard_is_finished_by_the_next_run(
    repository: Repository, image_registry: str
) -> None:
    """Three shards, one of them killed: the second run runs what is left, and nothing twice.

    The image is pushed to an image registry by the plan, and the shards run it by its digest.
    """
    names = ["succeed.1", "succeed.2", "succeed.3", "succeed.4", "wait.5", "succeed.6"]
    repository.registry(*names)
    inputs = INPUTS | {"shards": "3", "image_registry": f"{image_registry}/me/evals"}
    rest = sorted(set(names) - {"wait.5"})

    with repository.running(*LOGIN, **inputs) as workflow:
        runner = repository.evalset_of("2/3")
        # Which GitHub's runner would signal, because it is the step's own process.
        assert parent(runner) == workflow.pid
        until(lambda: sorted(repository.finished()) == rest, 60)
        os.kill(runner, signal.SIGKILL)
        first = repository.ended(workflow)
    assert first.status == 1
    assert "::error::not every eval is finished" in first.log
    assert "5 of 6" in first.log
    assert sorted(repository.finished()) == rest
    repository.end_machines()

    with repository.running(*LOGIN, **inputs) as workflow:
        repository.evalset_of("2/3")
        until(repository.let_go, 60)
        second = repository.ended(workflow)
    assert second.status == 0, second.log
    assert "6 of 6" in second.log
    assert sorted(repository.finished()) == sorted(names)
    assert repository.successes() == sorted(names)
    pinned = json.loads(repository.on_branch("oaievalset/m.s.run.json"))
    assert pinned["image_digest"].startswith(f"{image_registry}/me/evals@sha256:")


def test_an_image_is_built_once_for_all_runs(
    tmp_path: Path, image_registry: str, local_base: str
) -> None:
    """The next run finds it at the image registry, and any machine can pull it by its digest."""
    name = f"{image_registry}/me/evals"
    code = with_small_recipe(ROOT / "runner", tmp_path / "code", base=local_base)
    own = {"HOME": str(tmp_path), "PYTHONPATH": str(code), "GITHUB_OUTPUT": "outputs"}
    login = own | {"IMAGE_REGISTRY": name, "REGISTRY_USER": "a-user", "TOKEN": "a-token"}
    assert run_script(script("Log in at the image registry"), tmp_path, **login).returncode == 0
    outputs = tmp_path / "outputs"
    found = []
    for said in (f"image: built {name}:evalset in ", f"image: {name}:evalset is up to date"):
        outputs.write_text("")
        text = script("Make the image, and push it if there is an image registry")
        ended = run_script(text, tmp_path, path=str(BIN), IMAGE="", IMAGE_REGISTRY=name, **own)
        assert ended.returncode == 0, ended.stderr
        assert said in ended.stdout
        found.append(outputs.read_text())
        forget_images(image_registry)
    assert found[0] == found[1]
    digest = found[0].removeprefix("image=").strip()
    shown = run_script("evalset image show", tmp_path, path=str(BIN), EVALSET_IMAGE=digest, **own)
    assert f"digest: {digest}\n" in shown.stdout


def test_a_cancelled_job_pushes_what_is_finished(repository: Repository) -> None:
    """On the signal that GitHub sends first, it is done before the one that would kill it."""
    repository.registry("succeed.1", "wait.2")
    options = f"{INPUTS['arguments']} --snapshot-every 1h"
    with repository.running(**(INPUTS | {"shards": "1", "arguments": options})) as workflow:
        runner = repository.evalset_of("1/1")
        until(repository.waiting, 60)
        os.kill(runner, signal.SIGINT)
        until(lambda: not Path(f"/proc/{runner}").exists(), 10)
        assert repository.ended(workflow).status == 1
    assert repository.finished() == ["succeed.1"]


def test_what_does_not_fit_in_the_time_is_left_to_the_next_run(repository: Repository) -> None:
    """The job says so with its status, and the report that not everything is finished."""
    repository.registry("sleep.4", "sleep.4.b")
    inputs = INPUTS | {"shards": "1"}
    inputs["arguments"] += " --time-budget 8s"
    first = repository.run(**inputs)
    assert first.status == 1
    assert "exit status 75" in first.log
    assert "::error::not every eval is finished" in first.log
    assert repository.finished() == ["sleep.4"]
    second = repository.run(**inputs)
    assert second.status == 0, second.log
    assert repository.finished() == ["sleep.4", "sleep.4.b"]


def test_without_an_image_each_job_makes_the_planned_one(repository: Repository) -> None:
    """Real evals in the real image, with the workflow's defaults."""
    repository.commit()
    ended = repository.run(
        model="dummy",
        eval_set="test-basic",
        shards="2",
        arguments="--network none --max_samples 2",
        evalset="installed",
    )
    assert ended.status == 0, ended.log
    assert "4 of 4" in ended.log
    path = "oaievalset/dummy.test-basic.progress.txt"
    lines = repository.on_branch(path, "evalset/dummy.test-basic").splitlines()
    assert len(lines) == len(set(lines)) == 4
    assert all(json.loads(line)[-2:] == ["--max_samples", "2"] for line in lines)


CALLER = """
on: push
jobs:
  evals:
    uses: ./.github/workflows/evalset.yml
    permissions:
      contents: write
    with:
      model: m
      eval-set: s
      shards: "4"
      exclude: fail.* sleep.*
      snapshot-branch: a/branch
      lfs: true
      registry-path: registry
      image: evalset/test:program
      evalset: installed
      arguments: --run-command /bin/program --network none --memory 64m
    secrets:
      EVAL_VARIABLES: ${{ secrets.MY_VARIABLES }}
"""


def test_another_workflow_calls_it(repository: Repository) -> None:
    """With the secrets that it passes on, of which an eval sees those passed in and no other.

    No job is without an eval, because what is skipped counts in the plan, too.
    """
    (repository.checkout / ".github/workflows/caller.yml").write_text(CALLER)
    repository.registry("look.1", "succeed.2", "fail.3", "sleep.4")
    ended = repository.run(
        "--workflows",
        ".github/workflows/caller.yml",
        "--secret",
        "MY_VARIABLES=FLAG=on\nOTHER=off",
        "--secret",
        "GITHUB_TOKEN=the-token-of-the-job",
        event="push",
    )
    assert ended.status == 0, ended.log
    assert '"shard":"2/2"' in ended.log
    assert "2 of 2" in ended.log
    # By the plan, which reads the registry, and by each shard.
    assert ended.output.count("checked out with lfs: true") == 3
    assert sorted(repository.finished("a/branch")) == ["look.1", "succeed.2"]
    attempts = repository.on_branch("oaievalset/m.s.attempts.jsonl", "a/branch")
    records = map(json.loads, attempts.splitlines())
    (seen,) = [record["final_report"] for record in records if record["eval"] == "look.1"]
    assert seen["environment"]["FLAG"] == "on"
    assert seen["environment"]["OTHER"] == "off"
    assert seen["environment"]["OPENAI_API_KEY"] == PLACEHOLDER_KEY
    assert "the-token-of-the-job" not in json.dumps(seen)
    assert not [name for name in seen["environment"] if name.startswith(("GITHUB_", "EVALSET_"))]


ACTION = """
on: push
jobs:
  evals:
    runs-on: ubuntu-latest
    permissions:
      contents: write
    steps:
      - uses: CHECKOUT
        with:
          persist-credentials: false
      - uses: ./.github/actions/evalset
        with:
          model: dummy
          eval-set: test-basic
          shard: 1/2
          arguments: --network none --max_samples 1
          junit: evals.xml
      - run: cat evals.xml
      - uses: ./.github/actions/evalset
        with:
          model: dummy
          eval-set: test-basic
          shard: 2/2
          arguments: --network none --max_samples 1
"""


def test_the_action_installs_what_it_came_with(repository: Repository) -> None:
    """And runs an eval set in the real image in one step; the job continues with the JUnit file.

    Then it uses the action once more.
    """
    for name in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile"):
        shutil.copy(ROOT / name, repository.checkout)
    shutil.copytree(
        ROOT / "runner", repository.checkout / "runner", ignore=shutil.ignore_patterns("*.pyc")
    )
    workflow = repository.checkout / ".github/workflows/action.yml"
    workflow.write_text(ACTION.replace("CHECKOUT", checkout_action()))
    repository.commit()
    ended = repository.run("--workflows", str(workflow), event="push")
    assert ended.status == 0, ended.log
    path = "oaievalset/dummy.test-basic.progress.txt"
    assert len(repository.on_branch(path, "evalset/dummy.test-basic").splitlines()) == 4
    assert 'tests="2"' in "".join(ended.output)


def parent(process: int) -> int:
    """The id of the process that started this one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

"""Evals that cannot run, as a user sees them, from the plan to the status."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Here, contents, only_line

pytestmark = pytest.mark.docker

RUN = ("run", "dummy", "some", "--registry-path", "own", "--network", "none")
WHY = "no module `torch` in the image"


@pytest.fixture
def here(here_with_engine: Here) -> Here:
    """An eval that can run, and one that cannot."""
    torch = "evals.elsuite.hr_ml_agent_bench.eval:MLAgentBench"
    here_with_engine.put("own/evals/torch.yaml", f'torch.dev.v0: {{class: "{torch}"}}\n')
    here_with_engine.put("own/eval_sets/some.yaml", "some: {evals: [a.dev.v0, torch.dev.v0]}\n")
    return here_with_engine


def states(here: Here) -> dict[str, dict[str, Any]]:
    """What `evalset status` says, by eval."""
    said = json.loads(here.evalset("status", "dummy", "some", "--json").stdout)
    return {each["eval"]: each for each in said["evals"]}


def test_the_plan_shows_them_apart(here: Here) -> None:
    """As a table with the reason, or in JSON; the exit code is that of the run."""
    ended = here.evalset(*RUN, "--dry-run")
    assert ended.returncode == 1
    head, table = ended.stdout.split("1 eval cannot run, and is skipped\n")
    assert "to do (1):\n  oaieval dummy a.dev.v0" in head
    assert "torch.dev.v0" not in head
    assert WHY in " ".join(table.split())
    ended = here.evalset(*RUN, "--dry-run", "--json")
    plan = json.loads(ended.stdout)
    assert ([c[2] for c in plan["todo"]], [c[2] for c in plan["cannot"]]) == (
        ["a.dev.v0"],
        ["torch.dev.v0"],
    )
    assert plan["why"][1]["why"].startswith(f"cannot run: {WHY}")


def test_the_others_run_and_the_status_says_why(here: Here) -> None:
    """The exit code is 1, and so it is the next time, when nothing else is left."""
    ended = here.evalset(*RUN)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "warning: 1 eval cannot run, and is skipped\n" in ended.stdout
    assert "1 of 2 evals finished" in ended.stdout
    assert "; 1 cannot run: see above\n" in ended.stdout
    assert states(here)["a.dev.v0"]["state"] == "done"
    left = states(here)["torch.dev.v0"]
    assert left["state"] == "to do"
    assert left["reason"].startswith(f"skipped: {WHY}")
    again = here.evalset(*RUN)
    assert again.returncode == 1
    assert again.stdout.endswith("nothing to run; finished: 1 eval; 1 cannot run: see above\n")


def test_a_run_of_nothing_else_is_on_record(here: Here) -> None:
    """Without one container of an eval; once it can run, the status forgets."""
    only = (*RUN, "--select", "torch*")
    assert here.evalset(*only).returncode == 1
    assert states(here)["torch.dev.v0"]["reason"].startswith("skipped: ")
    match = (
        'torch.dev.v0: {class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: a.jsonl}}'
    )
    here.put("own/evals/torch.yaml", match)
    ended = here.evalset(*only)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert states(here)["torch.dev.v0"]["reason"] == ""


def test_nothing_is_set_aside_for_a_run_of_nothing(here: Here) -> None:
    """What was finished stays so where nothing can be run again."""
    assert here.evalset(*RUN).returncode == 1
    before = contents(here.folder / "progress")
    ended = here.evalset(*RUN, "--no-resume", "--select", "torch*")
    assert ended.returncode == 1
    assert "warning: 1 eval cannot run, and is skipped\n" in ended.stdout
    assert ended.stdout.endswith("nothing to run; finished: 0 evals; 1 cannot run: see above\n")
    assert contents(here.folder / "progress") == before


def test_who_wants_all_or_none_is_refused(here: Here) -> None:
    """Typed or in a file; with the reason, and before anything is written."""
    typed = here.evalset(*RUN, "--exit-on-error")
    for ended in (typed, here.evalset(*RUN, EVALSET_EXIT_ON_ERROR="1")):
        assert (ended.returncode, ended.stdout) == (2, "")
        first, last = ended.stderr.splitlines()
        assert first.startswith(f"Error: torch.dev.v0: {WHY}")
        assert last.startswith("Error: 1 eval cannot run, and --exit-on-error asks for all")
    assert not list(Path(here.folder).rglob("dummy.some.*"))


def test_no_probe_tries_them(here: Here) -> None:
    """The plan has both."""
    plan = json.loads(here.evalset(*RUN, "--dry-run", "--json", "--no-probe").stdout)
    assert [command[2] for command in plan["todo"]] == ["a.dev.v0", "torch.dev.v0"]


def test_doctor_names_them(here: Here) -> None:
    """It fails of them, and shows the table."""
    line = ("doctor", "--eval-set", "some", "--registry-path", "own")
    ended = here.evalset(*line)
    assert ended.returncode == 3
    assert "FAIL evals: 1 of 2 evals cannot run\n" in ended.stdout
    assert WHY in " ".join(ended.stdout.split())
    good = here.evalset("doctor", "--eval-set", "mine", "--registry-path", "own")
    assert "ok   evals: nothing keeps 3 evals from running\n" in good.stdout


def test_doctor_lets_a_network_that_was_typed_beat_a_rule(here: Here) -> None:
    """As a run does."""
    here.put("own/containers/rules.yaml", '"*": {network: none}\n')
    here.put("own/eval_sets/hub.yaml", "hub: {evals: [lambada.oaitest.v1]}\n")
    line = ("doctor", "--eval-set", "hub", "--registry-path", "own")
    ruled = here.evalset(*line)
    assert ruled.returncode == 3
    assert "FAIL evals: 1 of 1 eval cannot run\n" in ruled.stdout
    typed = here.evalset(*line, "--network", "bridge")
    assert "ok   evals: nothing keeps 1 eval from running\n" in typed.stdout, typed.stdout


def test_a_file_that_is_passed_over_is_said_where_its_eval_is_missed(here: Here) -> None:
    """`.yml` is no registry's ending."""
    here.put("own/evals/more.yml", 'm.dev.v0: {class: "evals.elsuite.basic.match:Match"}\n')
    here.put("own/eval_sets/some.yaml", "some: {evals: [m.dev.v0]}\n")
    ended = here.evalset(*RUN)
    assert ended.returncode == 2
    warning, error = ended.stderr.splitlines()
    assert warning == (
        f"warning: {here.folder}/own/evals/more.yml is ignored: a registry reads only files that "
        "end in .yaml; rename it"
    )
    assert "which matches no eval" in error


def test_a_copy_of_upstreams_registry_is_refused_in_one_line(here: Here) -> None:
    """With what is its user's own."""
    names = json.loads(here.evalset("list", "evals", "test*", "--json").stdout)
    copied = "".join(f'{each["name"]}: {{class: "a:B"}}\n' for each in names)
    here.put("own/evals/test.yaml", copied)
    line = only_line(here.evalset(*RUN), 2)
    assert line.startswith(f"the registry folder {here.folder}/own looks like upstream's own")
    assert "copy your own files (mine.yaml, torch.yaml, and the data that they name)" in line


def test_the_drop_in_says_so_and_tries_like_upstream(here: Here) -> None:
    """An eval that fails is recorded as failed."""
    ended = here.oaievalset(
        "dummy",
        "some",
        "--registry_path=own",
        "--no-exit-on-error",
        EVALSET_PROGRESS_DIR="progress",
        EVALSET_NETWORK="none",
    )
    assert ended.returncode == 1
    assert f"warning: torch.dev.v0: {WHY}" in ended.stdout
    assert {name: each["state"] for name, each in states(here).items()} == {
        "a.dev.v0": "done",
        "torch.dev.v0": "failed",
    }

"""Classes of a user's own, in a folder of code or in an image, from the command line."""

import json

import docker
import pytest

from runner.options import DEFAULT_IMAGE
from tests.commands.conftest import Here
from tests.images import build_image

pytestmark = pytest.mark.docker

SOLVER = """\
from evals.solvers.solver import Solver, SolverResult


class Repeat(Solver):
    def __init__(self, times, **more):
        super().__init__(**more)
        self.times = times

    def _solve(self, task_state, **more):
        return SolverResult(task_state.task_description * self.times)
"""

# Its import fails where it is used, two calls deep.
BROKEN = """\
import os
def of(name):
    return os.environ[name]
LEVEL = of("LEVEL_OF_MINE")
class Mine: pass
"""

DOCKERFILE = f"""
FROM {DEFAULT_IMAGE}
COPY broken.py /tmp/
RUN cp /tmp/broken.py $(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"""


@pytest.fixture
def here(here_with_engine: Here) -> Here:
    return here_with_engine


def test_a_solver_of_a_folder_of_code_is_asked(here: Here) -> None:
    """Its entry is in `solvers/`, with arguments; what it answers is what counts."""
    here.put("code/mine/solvers.py", SOLVER)
    args = "args: {times: 2}"
    here.put("own/solvers/mine.yaml", f'twice: {{class: "mine.solvers:Repeat", {args}}}\n')
    samples = [
        {"input": [{"role": "system", "content": "ab"}], "ideal": "abab"},
        {"input": [{"role": "system", "content": "ab"}], "ideal": "ab!"},
    ]
    here.put("own/data/a.jsonl", "\n".join(map(json.dumps, samples)))
    line = ("run", "twice", "mine", "--registry-path", "own", "--select", "a.dev.v0")
    without = here.evalset(*line, "--dry-run")
    assert "no module `mine`" in " ".join(without.stdout.split())
    ended = here.evalset(*line, "--code", "code", "--network", "none")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = json.loads(here.evalset("status", "twice", "mine", "--json").stdout)
    (report,) = [each["final_report"] for each in said["evals"] if each["eval"] == "a.dev.v0"]
    assert report["accuracy"] == 0.5


def test_a_class_of_an_own_image_that_cannot_be_imported_is_told_before_the_start(
    here: Here, api: docker.APIClient, tag: str
) -> None:
    """With the last line of the traceback, and where it was raised; the other eval runs."""
    build_image(api, tag, DOCKERFILE, files={"broken.py": BROKEN.encode()})
    here.put("own/evals/broken.yaml", 'broken.dev.v0: {class: "broken:Mine"}\n')
    here.put("own/eval_sets/both.yaml", "both: {evals: [a.dev.v0, broken.dev.v0]}\n")
    line = ("run", "dummy", "both", "--registry-path", "own", "--image", tag, "--network", "none")
    plan = here.evalset(*line, "--dry-run", "--json")
    assert plan.returncode == 1
    (why,) = [each["why"] for each in json.loads(plan.stdout)["why"] if "cannot" in each["why"]]
    assert why.startswith(
        "cannot run: the class `broken:Mine` cannot be imported: KeyError: 'LEVEL_OF_MINE' "
        f"({tag}:/opt/evals/"
    )
    assert "/broken.py:3)" in why
    ended = here.evalset(*line)
    assert ended.returncode == 1, ended.stderr
    before, _, after = ended.stdout.partition("1 of 2 evals finished")
    assert "KeyError: 'LEVEL_OF_MINE'" in " ".join(before.split())
    assert "1 cannot run: see above" in after

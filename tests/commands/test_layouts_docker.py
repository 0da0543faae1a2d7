"""Registries of third parties, laid out as these are, and the lines that lead to a run of them."""

import subprocess
from pathlib import Path

import pytest

from runner.options import DEFAULT_IMAGE
from tests.commands.conftest import Here, only_line

pytestmark = pytest.mark.docker

SAMPLE = '{"input": [{"role": "user", "content": "1"}], "ideal": "1"}\n'

# As SciAssess has them: no folder has an `__init__.py`, and an argument names a function.
CLASS = """\
import importlib

from evals.elsuite.basic.match import Match


class MatchWithFunc(Match):
    def __init__(self, completion_fns, *args, func_comparison, **more):
        super().__init__(completion_fns, *args, **more)
        module, _, name = func_comparison.partition(":")
        self.compare = getattr(importlib.import_module(module), name)
"""

EVAL = """\
{name}:
  id: {name}.test.v1
  metrics: [accuracy]
{name}.test.v1:
  class: sciassess.Implement.match_with_func:MatchWithFunc
  args:
    samples_jsonl: {name}/samples.jsonl
    func_comparison: sciassess.Implement.utils.metrics:compare
"""

COPY = """
import evals, pathlib, shutil
shutil.copytree(pathlib.Path(evals.__file__).parent / "registry/evals", "/out/evals")
"""


@pytest.fixture
def here(here_with_engine: Here) -> Here:
    return here_with_engine


@pytest.fixture
def sci_assess(here: Here) -> Here:
    """One file for each eval, and classes that are found through `PYTHONPATH=.`."""
    for name in ("chart_qa", "table_qa"):
        here.put(f"sciassess/Registry/evals/{name}.yaml", EVAL.format(name=name))
        here.put(f"sciassess/Registry/data/{name}/samples.jsonl", SAMPLE)
    here.put("sciassess/Registry/eval_sets/biology.yaml", "biology: {evals: [chart_qa, table_qa]}")
    here.put("sciassess/Implement/match_with_func.py", CLASS)
    here.put("sciassess/Implement/utils/metrics.py", "def compare(a, b):\n    return a == b\n")
    here.put("collect.py", "")
    return here


@pytest.fixture
def fork(here: Here) -> Here:
    """All of upstream's evals, and a file of one's own among them, as in ScienceEvals."""
    folder = here.folder / "fork"
    folder.mkdir()
    copy = ["docker", "run", "--rm", f"--volume={folder}:/out", "--env=OPENAI_API_KEY=none"]
    subprocess.run([*copy, DEFAULT_IMAGE, "python3", "-c", COPY], check=True)
    match = '{class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: ours/a.jsonl}}'
    here.put("fork/evals/ours.yaml", f"ours: {{id: ours.dev.v0}}\nours.dev.v0: {match}\n")
    here.put("fork/data/ours/a.jsonl", SAMPLE)
    here.put("fork/eval_sets/ours.yaml", "science: {evals: [ours, test-match]}")
    return here


@pytest.fixture
def tiny_qa(here: Here) -> Here:
    """As tiny_qa_benchmark_pp: files directly in the named folder, paths from the repository."""
    entry = "evals.elsuite.basic.match:Match\n  args:\n    samples_jsonl: data/core_en/core.jsonl\n"
    here.put("integrations/evals/core_en.yaml", f"core_en.dev.v0:\n  class: {entry}")
    here.put("data/core_en/core.jsonl", SAMPLE)
    here.put(".git/HEAD", "ref: refs/heads/main\n")
    return here


def test_classes_through_the_path_are_found_with_their_folder(sci_assess: Here) -> None:
    """Without it, a line says how to name it; with it, the evals run."""
    line = ("run", "dummy", "biology", "--registry-path", "sciassess/Registry")
    plan = sci_assess.evalset(*line, "--dry-run")
    assert plan.returncode == 1
    said = " ".join(plan.stdout.split())
    assert "no module `sciassess`, which has `sciassess.Implement.match_with_func:" in said
    assert "name its folder with --code" in said
    run = sci_assess.evalset(*line, "--code", ".")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 of 2 evals finished" in run.stdout


def test_a_fork_is_led_to_a_folder_of_its_own_files(fork: Here) -> None:
    """One line for all of upstream's evals; what it says to do leads to a run."""
    line = ("run", "dummy", "science", "--registry-path")
    said = only_line(fork.evalset(*line, "fork"), 2)
    assert said.startswith(f"the registry folder {fork.folder}/fork looks like upstream's own")
    assert "copy your own files (ours.yaml, and the data that they name)" in said
    for name in ("evals/ours.yaml", "data/ours/a.jsonl", "eval_sets/ours.yaml"):
        fork.put(f"own-files/{name}", Path(fork.folder, "fork", name).read_text())
    run = fork.evalset(*line, "own-files")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 of 2 evals finished" in run.stdout


def test_paths_from_the_top_of_a_repository_are_led_to_data(tiny_qa: Here) -> None:
    """Each line names the next thing to do; the last step is a run."""
    top = tiny_qa.folder
    named = ("run", "dummy", "tiny", "--registry-path", "integrations/evals")
    said = only_line(tiny_qa.evalset(*named), 2)
    assert said.startswith(f"the registry folder {top}/integrations/evals has core_en.yaml in it")
    line = (*named[:-1], "integrations")
    tiny_qa.put("integrations/eval_sets/tiny.yaml", "tiny: {evals: [core_en.dev.v0]}\n")
    refused = tiny_qa.evalset(*line, "--exit-on-error")
    assert refused.returncode == 2
    file = f"{top}/integrations/data/core_en/core.jsonl"
    assert refused.stderr.splitlines()[0] == (
        f"Error: core_en.dev.v0: {top}/integrations/evals/core_en.yaml: `samples_jsonl` names "
        "`data/core_en/core.jsonl`, a path that starts at the folder `data` of the registry, but "
        f"the file is {top}/data/core_en/core.jsonl; copy the file to {file}, and write "
        "`core_en/core.jsonl`"
    )
    tiny_qa.put(file, SAMPLE)
    entry = tiny_qa.folder / "integrations/evals/core_en.yaml"
    entry.write_text(entry.read_text().replace("data/core_en", "core_en"))
    run = tiny_qa.evalset(*line)
    assert run.returncode == 0, run.stdout + run.stderr

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from tests.conftest import Place

ROOT = Path(__file__).parents[2]
BASIC = ("test-match.s1.simple-v0", "test-fuzzy-match.s1.simple-v0", "test-includes.s1.simple-v0")

pytestmark = pytest.mark.docker


def evalset(place: Place, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with its own defaults but for the progress directory."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments, "--progress-dir", place.progress],
        capture_output=True,
        text=True,
        check=False,
        cwd=place.folder,
        env=place.environ(
            EVALSET_IMAGE=DEFAULT_IMAGE,
            EVALSET_RUN_COMMAND="oaieval",
            EVALSET_NETWORK="evalset",
            EVALSET_MEMORY="1g",
        ),
        timeout=120,
    )


@pytest.fixture(scope="module")
def basic(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[tuple[Place, "subprocess.CompletedProcess[str]"]]:
    """openai/evals' own `test-basic` with its model that needs no key, run once."""
    place = Place(tmp_path_factory.mktemp("basic"), cache, DEFAULT_IMAGE)
    yield place, evalset(place, "run", "dummy", "test-basic")
    assert place.leftovers() == []


def test_openai_evals_own_set_runs(
    basic: tuple[Place, "subprocess.CompletedProcess[str]"],
) -> None:
    """`dummy test-basic` finishes, each eval with oaieval's log, report, and console log."""
    place, ended = basic
    assert (ended.returncode, ended.stderr) == (0, "")
    layout = Layout(root=place.progress, model="dummy", eval_set="test-basic")
    lines = layout.attempts.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 4
    for record in records:
        assert record["result"] == "success"
        assert record["samples"] > 0
        assert "accuracy" in record["final_report"]
        (log,) = record["logs"]
        first = (place.progress / log).read_text().splitlines()[0]
        spec = json.loads(first)["spec"]
        assert log == f"evallogs/{spec['run_id']}_dummy_{record['eval']}.jsonl"
        assert (place.progress / record["console_log"]).stat().st_size > 0


def test_progress_is_upstreams_bytes(
    basic: tuple[Place, "subprocess.CompletedProcess[str]"],
) -> None:
    """The progress file holds the commands that upstream runs, one JSON array a line."""
    place, _ = basic
    path = place.progress / "oaievalset/dummy.test-basic.progress.txt"
    lines = path.read_text().splitlines()
    assert all(line == json.dumps(json.loads(line)) for line in lines)
    commands = [json.loads(line) for line in lines]
    assert len(commands) == 4
    assert {(command[0], command[1], len(command)) for command in commands} == {
        ("oaieval", "dummy", 3)
    }
    assert set(BASIC) < {command[2] for command in commands}


def test_a_finished_set_is_not_run_again(
    basic: tuple[Place, "subprocess.CompletedProcess[str]"],
) -> None:
    """The second run says so and changes no file."""
    place, _ = basic
    before = {path: path.stat().st_mtime_ns for path in place.progress.rglob("*.*")}
    ended = evalset(place, "run", "dummy", "test-basic")
    assert ended.returncode == 0
    assert ended.stdout.endswith("nothing to run; finished: 4 evals\n")
    assert {path: path.stat().st_mtime_ns for path in place.progress.rglob("*.*")} == before


def test_the_demo_runs_from_our_own_registry(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> None:
    """The bundled set needs no key and no network, and its scores are those of its data."""
    place = Place(tmp_path_factory.mktemp("demo"), cache, DEFAULT_IMAGE)
    ended = evalset(place, "run", "dummy", "demo", "--registry-path", str(ROOT / "registry"))
    assert (ended.returncode, ended.stderr) == (0, "")
    layout = Layout(root=place.progress, model="dummy", eval_set="demo")
    records = [json.loads(line) for line in layout.attempts.read_text().splitlines()]
    scores = {record["eval"]: record["final_report"].get("accuracy") for record in records}
    assert len(records) == 6
    assert scores["demo-match.dev.v0"] == 1.0
    assert scores["demo-match-half.dev.v0"] == 0.5
    assert place.leftovers() == []


@pytest.mark.parametrize(("name", "count"), [("test", 19), ("test-modelgraded", 12)])
def test_every_eval_of_upstreams_test_sets_runs(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, name: str, count: int
) -> None:
    """The image has all that the basic and the model-graded evals import."""
    place = Place(tmp_path_factory.mktemp(name), cache, DEFAULT_IMAGE)
    ended = evalset(place, "run", "dummy", name, "--no-exit-on-error", "--max_samples", "1")
    assert ended.returncode == 0, ended.stdout
    assert f"{count} of {count} evals finished" in ended.stdout

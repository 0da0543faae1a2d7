import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.progress import read_attempts
from runner.records.snapshot import SegmentName, pack
from tests.branch.desk import git
from tests.conftest import Place
from tests.provider import KEY, Provider, provider

pytestmark = pytest.mark.docker

MATCH, FUZZY = "test-match.s1.simple-v0", "test-fuzzy-match.s1.simple-v0"


def evalset(
    place: Place,
    *arguments: str,
    progress: Path,
    inside: Sequence[str] = (),
    **variables: str,
) -> "subprocess.CompletedProcess[str]":
    """Run the program with a real model's name, and no more variables than named.

    Args:
        inside: what stands before the command line, to run it in another world.
    """
    return subprocess.run(
        [*inside, sys.executable, "-m", "runner", *arguments, "--progress-dir", progress],
        capture_output=True,
        text=True,
        check=False,
        cwd=place.folder,
        env=place.environ(
            EVALSET_IMAGE=DEFAULT_IMAGE,
            EVALSET_RUN_COMMAND="oaieval",
            EVALSET_MEMORY="1g",
            **variables,
        ),
        timeout=200,
    )


def run(place: Place, stub: Provider, *evals: str, options: Sequence[str]) -> None:
    """Run some of openai/evals' own evals to their end against a provider."""
    ended = evalset(
        place,
        *("run", "gpt-3.5-turbo", "test-basic"),
        *(word for name in evals for word in ("--select", name)),
        *options,
        progress=place.progress,
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"{stub.url}/v1",
    )
    assert ended.returncode == 0, ended


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Place]:
    """A run of openai/evals' own evals against a provider that is gone now."""
    place = Place(tmp_path_factory.mktemp("verify"), cache, DEFAULT_IMAGE)
    with provider(place.folder) as stub:
        run(place, stub, MATCH, FUZZY, options=("--snapshot", "--snapshot-answers"))
        assert len(stub.bills()) == 6
    yield place
    assert place.leftovers() == []


def copy(place: Place, name: str) -> Layout:
    """Another progress directory with the same in it."""
    root = place.folder / name
    shutil.copytree(place.progress, root, ignore=shutil.ignore_patterns(".gateway"))
    return Layout(root=root, model="gpt-3.5-turbo", eval_set="test-basic")


def verified(
    place: Place, root: Path, *options: str, inside: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    names = "gpt-3.5-turbo", "test-basic"
    return evalset(place, "verify", *names, *options, progress=root, inside=inside)


def answers_of(layout: Layout, name: str) -> Path:
    (path,) = layout.answers.glob(f"{name}.*.jsonl")
    return path


def test_a_run_is_the_same_again_without_its_provider(run_once: Place) -> None:
    """Each answer names its bill, so that only the recorded ones give the same samples."""
    ended = verified(run_once, run_once.progress)
    assert ended.returncode == 0, ended
    assert ended.stdout.splitlines() == [
        f"same         {MATCH}  (3 samples, 3 answers)",
        f"same         {FUZZY}  (3 samples, 3 answers)",
        "not compared: times, run_id, event_id, created_by, boostrap_std (1 drawn at random)",
        "same: 2",
    ]


def test_more_samples_do_not_pay_again_for_the_first_ones(tmp_path: Path, cache: Path) -> None:
    """A first try with one sample, then all three: three bills, and both can be verified."""
    place = Place(tmp_path, cache, DEFAULT_IMAGE)
    with provider(place.folder) as stub:
        for samples in ("1", "3"):
            run(place, stub, MATCH, options=("--max_samples", samples))
            assert len(stub.bills()) == int(samples)
    layout = Layout(root=place.progress, model="gpt-3.5-turbo", eval_set="test-basic")
    spending = read_attempts(layout.attempts).records[-1].spending
    assert spending
    assert spending.replayed == 1
    ended = verified(place, place.progress)
    assert ended.returncode == 0, ended
    assert "(1 sample, 1 answer)" in ended.stdout
    assert "(3 samples, 3 answers)" in ended.stdout


def test_a_changed_answer_is_found_and_one_that_is_missing_too(run_once: Place) -> None:
    """Where the sample differs, and what was asked without an answer; nobody was asked."""
    layout = copy(run_once, "changed")
    path = answers_of(layout, MATCH)
    path.write_text(path.read_text().replace("bill ", "no bill ", 1))
    path = answers_of(layout, FUZZY)
    kept = path.read_text().splitlines(keepends=True)
    kept.remove(next(line for line in kept if json.loads(line)["kind"] == "answer"))
    path.write_text("".join(kept))
    ended = verified(run_once, layout.root)
    assert ended.returncode == 1, ended
    assert f"differs      {MATCH}" in ended.stdout
    assert f"sample {MATCH.removesuffix('.simple-v0')}." in ended.stdout
    assert ', sampling, sampled.0: expected "bill ' in ended.stdout
    assert ', found "no bill ' in ended.stdout
    assert f"differs      {FUZZY}  (0 samples, 2 answers)" in ended.stdout
    assert "asks once more than is on record: POST /v1/chat/completions gpt-3.5-t" in ended.stdout


def test_without_answers_nobody_can_tell(run_once: Place) -> None:
    """As for what was run without the gateway; no engine is needed to say so."""
    layout = copy(run_once, "without")
    shutil.rmtree(layout.answers)
    ended = verified(run_once, layout.root)
    assert ended.returncode == 3
    assert ended.stdout.splitlines() == [
        f"cannot tell  {MATCH}: it has no answers on record",
        f"cannot tell  {FUZZY}: it has no answers on record",
        "cannot tell: 2",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_a_branch_with_answers_is_all_that_it_takes(run_once: Place) -> None:
    """Whoever has it can check the scores, without the run's progress directory or any network."""
    repository = run_once.folder / "clone.git"
    shutil.copytree(run_once.progress / ".snapshots.git", repository)
    branch = "evalset/gpt-3.5-turbo.test-basic"
    root = run_once.folder / "elsewhere"
    branch_of = "--branch", branch, "--snapshot-repo", str(repository)
    ended = verified(run_once, root, *branch_of, "--select", FUZZY, inside=("unshare", "--net"))
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith(f"same         {FUZZY}  (3 samples, 3 answers)\n")
    assert not root.exists()


def test_an_answer_that_was_changed_on_the_branch_is_found(run_once: Place) -> None:
    """Somebody has committed a segment of lines that hold together, with another answer in it."""
    clone = run_once.folder / "changed-clone"
    branch = "evalset/gpt-3.5-turbo.test-basic"
    source = run_once.progress / ".snapshots.git"
    subprocess.run(["git", "clone", "-q", "--branch", branch, source, clone], check=True)
    change_answer(clone)
    git(clone, "config", "user.name", "Somebody")
    git(clone, "config", "user.email", "somebody@example.org")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message=better")
    root = run_once.folder / "nowhere"
    branch_of = "--branch", branch, "--snapshot-repo", str(clone)
    ended = verified(run_once, root, *branch_of, "--select", MATCH, "--select", FUZZY)
    assert ended.returncode == 1, ended
    lines = ended.stdout.splitlines()
    assert lines[0] == f"differs      {MATCH}  (3 samples, 3 answers)"
    same = lines.index(f"same         {FUZZY}  (3 samples, 3 answers)")
    places = [line.strip().partition(", ") for line in lines[1:same]]
    assert len({sample for sample, _, _ in places}) == 1, "one answer, one sample"
    assert places[0][0].startswith("sample test-match.s1.")
    what = "\n".join(rest for _, _, rest in places)
    assert re.search(
        r'^sampling, sampled\.0: expected "bill \d", found "no bill \d"$', what, re.MULTILINE
    )


def change_answer(clone: Path) -> None:
    """Change one answer in the segment that has it, whose name is that of its new content."""
    for path in sorted(clone.glob(f"answers/*/{MATCH}.*/*.jsonl.gz")):
        name = SegmentName.read(str(path))
        assert name
        lines = name.lines(path.read_bytes())
        if b"bill " in lines:
            changed = lines.replace(b"bill ", b"no bill ", 1)
            name, stored = pack(name.eval, name.first, changed.splitlines(keepends=True))
            path.unlink()
            path.with_name(Path(str(name)).name).write_bytes(stored)
            return
    pytest.fail("no segment has an answer")


def test_samples_that_ask_the_same_get_their_own_answers(run_once: Place) -> None:
    """The image sends the sample's id; each answer names its bill, so that a swap would show."""
    folder = run_once.folder / "equal"
    prompt = [{"role": "user", "content": "Which bill is it?"}]
    files = {
        "evals/own.yaml": {
            "equal.dev.v0": {
                "class": "evals.elsuite.basic.match:Match",
                "args": {"samples_jsonl": "equal.jsonl"},
            }
        },
        "eval_sets/own.yaml": {"equal": {"evals": ["equal.dev.v0"]}},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    (folder / "data").mkdir()
    line = json.dumps({"input": prompt, "ideal": "bill 1"})
    (folder / "data/equal.jsonl").write_text(f"{line}\n" * 12)
    names = ("gpt-3.5-turbo", "equal", "--registry-path", str(folder))
    (run_once.folder / "stub").mkdir()
    with provider(run_once.folder / "stub", delay=0.1) as stub:
        ended = evalset(
            run_once,
            *("run", *names),
            progress=run_once.folder / "equal-progress",
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=f"{stub.url}/v1",
        )
        assert ended.returncode == 0, ended
        assert len(stub.bills()) == 12
    ended = evalset(run_once, "verify", *names, progress=run_once.folder / "equal-progress")
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith("same         equal.dev.v0  (12 samples, 12 answers)\n")

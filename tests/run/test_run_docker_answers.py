"""Answers that travel on the branch: another host pays for the rest of an eval alone."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import msgspec
import pytest
import yaml

from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.snapshot import SegmentName
from tests.branch.desk import git, make_bare, make_clone
from tests.conftest import Place, engine_api, until
from tests.processes import started
from tests.provider import KEY, Provider, provider

pytestmark = pytest.mark.docker

MODEL, EVAL_SET, EVAL = "gpt-3.5-turbo", "words", "words.dev.v0"
BRANCH = f"evalset/{MODEL}.{EVAL_SET}"
SAMPLES = 20
ANSWERED = 12


def registry(folder: Path) -> Path:
    """An eval whose samples ask a model to repeat a word."""
    samples = [
        {"input": [{"role": "user", "content": f"word-{number}"}], "ideal": f"word-{number}"}
        for number in range(SAMPLES)
    ]
    files = {
        "evals/words.yaml": yaml.safe_dump(
            {
                "words": {"id": EVAL, "metrics": ["accuracy"]},
                EVAL: {
                    "class": "evals.elsuite.basic.match:Match",
                    "args": {"samples_jsonl": "words/samples.jsonl"},
                },
            },
            sort_keys=False,
        ),
        "eval_sets/words.yaml": yaml.safe_dump({EVAL_SET: {"evals": ["words"]}}),
        "data/words/samples.jsonl": "".join(f"{json.dumps(sample)}\n" for sample in samples),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


class Machine(msgspec.Struct, frozen=True):
    """One of two hosts: a clone, a progress directory, and the provider's address."""

    place: Place
    clone: Path
    registry: Path
    url: str

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return Layout(root=self.place.progress, model=MODEL, eval_set=EVAL_SET)

    def running(self, *options: str) -> AbstractContextManager["subprocess.Popen[str]"]:
        """Start a run, which is killed when the `with` block ends."""
        line = [sys.executable, "-m", "runner", "run", MODEL, EVAL_SET, *options]
        line += ["--registry-path", str(self.registry), "--progress-dir", str(self.place.progress)]
        return started(
            [*line, "--snapshot", "--snapshot-every", "1s"],
            folder=self.clone,
            env=self.place.environ(
                EVALSET_IMAGE=DEFAULT_IMAGE,
                EVALSET_RUN_COMMAND="oaieval",
                EVALSET_MEMORY="1g",
                OPENAI_API_KEY=KEY,
                OPENAI_BASE_URL=f"{self.url}/v1",
                PYTHONPATH=str(Path(__file__).parents[2]),
            ),
            stderr=subprocess.STDOUT,
        )

    def lose(self, run: "subprocess.Popen[str]") -> None:
        """All that runs there is gone at once, as when a host is lost."""
        run.kill()
        os.kill(int((self.layout.gateway / "pid").read_text()), signal.SIGKILL)
        for container in self.place.containers():
            engine_api().remove_container(container, force=True, v=True)
        run.wait()


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Provider]:
    """A provider that repeats what it is told, and after some answers is silent."""
    folder = tmp_path / "provider"
    folder.mkdir()
    script = [{"way": "answer"}] * ANSWERED + [{"way": "hang"}] * SAMPLES
    with provider(folder, script=script, answer="{echo}") as found:
        yield found


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A bare repository between the hosts."""
    return make_bare(tmp_path / "hub.git")


@pytest.fixture
def machines(
    tmp_path: Path, cache: Path, hub: Path, stub: Provider
) -> Iterator[tuple[Machine, Machine]]:
    """Two hosts, at each of which nothing may be left."""
    content = registry(tmp_path / "registry")
    made = []
    for name in ("a", "b"):
        place = Place(tmp_path / name, cache, DEFAULT_IMAGE)
        place.folder.mkdir()
        clone = make_clone(tmp_path / f"clone-{name}", remote=hub)
        made.append(Machine(place, clone, content, stub.url))
    a, b = made
    yield a, b
    for machine in made:
        with suppress(OSError, ValueError):
            os.kill(int((machine.layout.gateway / "pid").read_text()), signal.SIGKILL)
        for container in machine.place.containers():
            engine_api().remove_container(container, force=True, v=True)


def content_of(hub: Path) -> list[bytes]:
    """Everything that the branch has in its history: commits, trees and files, those unpacked."""
    names = git(hub, "rev-list", "--objects", "--no-object-names", BRANCH).splitlines()
    found = []
    for name in names:
        kind = git(hub, "cat-file", "-t", name).strip()
        line = ["git", "-C", str(hub), "cat-file", kind, name]
        stored = subprocess.run(line, capture_output=True, check=True).stdout
        found.append(gzip.decompress(stored) if stored.startswith(b"\x1f\x8b") else stored)
    return found


def answers_at(hub: Path) -> int:
    """How many answers the segments of the remote's branch hold."""
    if not git(hub, "branch", "--list", BRANCH):
        return 0
    count = 0
    for path in git(hub, "ls-tree", "-r", "--name-only", BRANCH, "answers/").splitlines():
        name = SegmentName.read(path)
        assert name is not None
        line = ["git", "-C", str(hub), "cat-file", "blob", f"{BRANCH}:{path}"]
        stored = subprocess.run(line, capture_output=True, check=True).stdout
        count += name.lines(stored).count(b'"kind":"answer"')
    return count


def test_another_host_pays_for_the_rest_of_an_eval(
    machines: tuple[Machine, Machine], hub: Path, stub: Provider
) -> None:
    """By the provider's own ledger; the score is that of all samples, and no key is anywhere."""
    a, b = machines
    with a.running("--snapshot-answers") as run:
        until(lambda: answers_at(hub) == ANSWERED, seconds=60)
        a.lose(run)
    assert len(stub.bills()) == ANSWERED
    before = len(stub.requests())
    stub.behave(answer="{echo}")

    with b.running("--snapshot-answers") as run:
        said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert f"took over answers of providers from the branch {BRANCH}: {ANSWERED}" in said
    assert len(stub.bills()) == SAMPLES
    assert len({bill.key for bill in stub.bills()}) == SAMPLES
    asked = [each for each in stub.requests()[before:] if each.method == "POST"]
    assert len(asked) == SAMPLES - ANSWERED
    (record,) = [
        json.loads(line)
        for line in b.layout.attempts.read_text().splitlines()
        if '"result":"success"' in line
    ]
    assert record["final_report"]["accuracy"] == 1.0
    assert record["samples"] >= SAMPLES
    assert answers_at(hub) == SAMPLES

    c = msgspec.structs.replace(b, place=Place(b.place.folder / "c", b.place.cache, b.place.image))
    with c.running() as run:
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert f"the branch {BRANCH} has answers for 1 eval, which stay there" in said
    assert not c.layout.answers.exists()
    assert len(stub.bills()) == SAMPLES
    everything = content_of(hub)
    assert any(b'"kind":"answer"' in each for each in everything), "no segment was unpacked"
    assert not any(KEY.encode() in each for each in everything)

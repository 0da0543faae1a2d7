"""Runs of oaieval whose runner, container and gateway are killed: the score, and what it cost."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.errors import APIError

from runner.gateway.client import MODULE, end_process
from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.progress import read_attempts
from tests.amount import amount
from tests.conftest import Place, engine_api, remove_containers, until
from tests.faults.test_gateway_kills import is_stopped, kill
from tests.provider import KEY, ROOT, Provider, provider

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

MODEL, EVAL_SET, EVAL = "gpt-3.5-turbo", "words", "words.dev.v0"
SAMPLES = 60
THREADS = 2
DELAY = 0.15

WITHOUT_GATEWAY = [{"runner"}, {"eval"}, {"runner", "eval"}]
WITH_GATEWAY = [
    {"gateway", *others}
    for count in (0, 1, 2)
    for others in itertools.combinations(("runner", "eval"), count)
]


class Stage:
    """A progress directory in which oaieval is run, however often that takes."""

    def __init__(self, place: Place, stub: Provider) -> None:
        self.place = place
        self.layout = Layout(root=place.progress, model=MODEL, eval_set=EVAL_SET)
        self.stub = stub
        self._registry = write_registry(place.folder / "registry")
        self._log = place.folder / "said.txt"
        self._run = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start a run, which takes over what is there."""
        line = [sys.executable, "-m", "runner", "run", MODEL, EVAL_SET]
        line += ["--registry-path", str(self._registry), "--progress-dir", str(self.layout.root)]
        with self._log.open("ab") as said:
            return subprocess.Popen(
                line,
                stdout=said,
                stderr=said,
                cwd=self.place.folder,
                env=self.place.environ(
                    EVALSET_IMAGE=DEFAULT_IMAGE,
                    EVALSET_RUN_COMMAND="oaieval",
                    EVALSET_MEMORY="1g",
                    EVALS_THREADS=str(THREADS),
                    OPENAI_API_KEY=KEY,
                    OPENAI_BASE_URL=f"{self.stub.url}/v1",
                    PYTHONPATH=str(ROOT),
                ),
            )

    def wait_for(self, bills: int, targets: set[str]) -> None:
        """Wait until so many answers are billed, and all that is to be killed is there."""

        def there() -> bool:
            self._start_again()
            return (
                len(self.stub.bills()) >= bills
                and ("eval" not in targets or bool(self.place.containers(every=False)))
                and ("gateway" not in targets or self._gateway() > 0)
            )

        until(there, 60)

    def _start_again(self) -> None:
        if self._run.poll() is not None:
            assert b"Traceback" not in self._log.read_bytes(), self._log.read_text()
            self._run = self._start()

    def kill(self, targets: set[str]) -> int:
        """Kill them at once; gives how many answers may be billed twice for it."""
        gateway = self._gateway() if "gateway" in targets else 0
        if gateway:  # else it has ended just now
            kill(gateway, signal.SIGSTOP)
            until(lambda: is_stopped(gateway))
        if "runner" in targets:
            self._run.kill()
            self._run.wait()
        if "eval" in targets:
            for container in self.place.containers(every=False):
                with suppress(APIError):  # it has just ended
                    engine_api().kill(container)
        if not gateway:
            return 0
        lost = self._under_way()
        kill(gateway)
        return lost

    def _gateway(self) -> int:
        with suppress(OSError, ValueError):
            pid = int((self.layout.gateway / "pid").read_text())
            argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
            return pid if MODULE.encode() in argv else 0
        return 0

    def _under_way(self) -> int:
        """The eval's own requests, at most, and those of an attempt that is gone."""
        files = self.layout.answers.glob("*.jsonl")  # none before the first request
        whole = [path.read_bytes().rpartition(b"\n")[0] for path in files]
        lines: list[dict[str, Any]] = [json.loads(it) for each in whole for it in each.splitlines()]
        ended = {line["id"] for line in lines if line["kind"] in {"answer", "failed"}}
        sent = [line for line in lines if line["kind"] == "sent"]
        if not sent:
            return 0
        others = [line for line in sent if line["attempt"] != sent[-1]["attempt"]]
        return THREADS + len({line["id"] for line in others} - ended)

    def end(self) -> dict[str, Any]:
        """Run until all is done; gives what came of it."""

        def is_done() -> bool:
            if self._run.poll() == 0:
                return True
            self._start_again()
            return False

        until(is_done, 120)
        successes = [
            each for each in read_attempts(self.layout.attempts).records if each.final_report
        ]
        (record,) = successes
        assert record.final_report
        (log,) = record.logs
        events = map(json.loads, (self.layout.root / log).read_text().splitlines())
        matches = {it["sample_id"]: it["data"] for it in events if it.get("type") == "match"}
        report = {k: v for k, v in record.final_report.items() if k != "boostrap_std"}
        return {"report": report, "matches": matches}

    def clear(self) -> None:
        """Leave nothing, whatever happened."""
        self._run.kill()
        self._run.wait()
        remove_containers(self.place.containers())
        end_process(self.layout.gateway)


def write_registry(folder: Path) -> Path:
    """An eval whose samples ask a model to repeat a word, of which every third is wrong."""
    samples = [
        {
            "input": [{"role": "user", "content": f"word-{number}"}],
            "ideal": f"word-{number if number % 3 else 'else'}",
        }
        for number in range(SAMPLES)
    ]
    files = {
        "evals/words.yaml": yaml.safe_dump(
            {
                EVAL: {
                    "class": "evals.elsuite.basic.match:Match",
                    "args": {"samples_jsonl": "words/samples.jsonl"},
                }
            }
        ),
        "eval_sets/words.yaml": yaml.safe_dump({EVAL_SET: {"evals": [EVAL]}}),
        "data/words/samples.jsonl": "".join(f"{json.dumps(sample)}\n" for sample in samples),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@contextmanager
def stage(folder: Path, cache: Path, delay: float) -> Iterator[Stage]:
    """A run with a provider of its own that takes so long; nothing of it stays."""
    (folder / "provider").mkdir(parents=True)
    with provider(folder / "provider", delay=delay, answer="{echo}") as stub:
        found = Stage(Place(folder, cache, DEFAULT_IMAGE), stub)
        try:
            yield found
        finally:
            found.clear()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, Any]:
    """What comes of a run that nobody disturbs."""
    with stage(tmp_path_factory.mktemp("undisturbed") / "run", cache, 0) as found:
        said = found.end()
    assert said["report"]["accuracy"] == pytest.approx(2 / 3)
    assert len(said["matches"]) == SAMPLES
    return said


@pytest.mark.parametrize(
    "targets", [WITHOUT_GATEWAY, WITH_GATEWAY], ids=["without the gateway", "with the gateway"]
)
def test_the_score_is_that_of_a_run_that_nobody_disturbs(
    decide: random.Random,
    tmp_path: Path,
    cache: Path,
    undisturbed: dict[str, Any],
    targets: list[set[str]],
) -> None:
    """And twice is paid nothing, or at most what was under way when a gateway was killed."""
    for number in range(amount(1, 10)):
        allowed = 0
        with stage(tmp_path / f"{number}", cache, DELAY) as found:
            for bills in sorted(decide.sample(range(SAMPLES - THREADS), 4)):
                chosen = decide.choice(targets)
                found.wait_for(bills, chosen)
                time.sleep(decide.uniform(0, DELAY))
                print(bills, *sorted(chosen))
                allowed += found.kill(chosen)
            assert found.end() == undisturbed
            paid = found.stub.bills()
        print(len(paid) - SAMPLES, "billed twice of", allowed)
        assert len({bill.key for bill in paid}) == SAMPLES
        assert SAMPLES <= len(paid) <= SAMPLES + allowed

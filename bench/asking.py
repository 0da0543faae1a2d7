"""Evals that ask a model through the gateway, against what is possible, and against upstream."""

import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import yaml

from bench.figure import EVALSET, IMAGE, UPSTREAM, Figure, in_turn, seconds
from bench.gateway import stub
from bench.whole import until_created
from tests.provider import KEY, Provider

MODEL, EVAL_SET = "gpt-3.5-turbo", "asking"
EVAL = f"{EVAL_SET}.dev.v0"
THREADS = 10

# Seconds that the gateway may delay the first container.
LATER = 0.05


class Evals:
    """One eval that asks a model about each of its samples, and who runs it.

    Args:
        folder: for all files.
        provider: of the model.
    """

    def __init__(self, folder: Path, provider: Provider, samples: int) -> None:
        self.progress = folder / "progress"
        self._registry = _registry(folder / "registry", samples)
        self._environment = {
            **os.environ,
            "EVALSET_PROGRESS_DIR": str(self.progress),
            "EVALS_THREADS": str(THREADS),
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{provider.url}/v1",
        }

    def ours(self) -> float:
        """Seconds of the whole run, with the answers that are on record."""
        arguments = MODEL, EVAL_SET, "--registry-path", self._registry, "--env", "EVALS_THREADS"
        return seconds([EVALSET, "run", *arguments], env=self._environment)

    def ours_anew(self) -> float:
        """The same, with none on record."""
        shutil.rmtree(self.progress, ignore_errors=True)
        return self.ours()

    def ours_again(self) -> float:
        """The same, with all on record, as if the eval had been killed at its very end."""
        for path in self.progress.iterdir():
            if path.is_dir() and path.name != "answers":
                shutil.rmtree(path)
        return self.ours()

    def upstreams(self) -> float:
        """Seconds of upstream's `oaieval`, which asks the provider itself."""
        with tempfile.TemporaryDirectory() as folder:
            line: list[str | Path] = [
                *(UPSTREAM / "oaieval", MODEL, EVAL, "--registry_path", self._registry),
                f"--record_path={folder}/log.jsonl",
            ]
            return seconds(line, env=self._environment)

    def start(self) -> float:
        """Seconds of `oaieval` in a container where it asks nobody, for one sample."""
        line: list[str | Path] = [
            *("docker", "run", "--rm", "--network", "none", "--env", "OPENAI_API_KEY=none"),
            *("--env", "HOME=/tmp", "--volume", f"{self._registry}:/registry:ro", IMAGE),
            *("oaieval", "dummy", EVAL, "--max_samples", "1", "--registry_path", "/registry"),
        ]
        return seconds(line)


def _registry(folder: Path, samples: int) -> Path:
    lines = [
        {"input": [{"role": "user", "content": f"Say {number}."}], "ideal": f"Say {number}."}
        for number in range(samples)
    ]
    evals = {
        EVAL_SET: {"id": EVAL, "metrics": ["accuracy"]},
        EVAL: {
            "class": "evals.elsuite.basic.match:Match",
            "args": {"samples_jsonl": "asking.jsonl"},
        },
    }
    files = {
        "evals/asking.yaml": yaml.safe_dump(evals),
        "eval_sets/asking.yaml": yaml.safe_dump({EVAL_SET: {"evals": [EVAL]}}),
        "data/asking.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def one_eval(runs: int, samples: int = 500, delay: float = 0.3) -> list[Figure]:
    """One eval with the gateway against what its requests take, and against upstream without."""
    with tempfile.TemporaryDirectory() as folder, stub(delay=delay, answer="{echo}") as provider:
        evals = Evals(Path(folder), provider, samples)
        start = statistics.median(evals.start() for _ in range(runs))
        ours, upstreams = in_turn(evals.ours_anew, evals.upstreams, runs)
        if len(provider.bills()) != 2 * runs * samples:
            raise SystemExit(f"{len(provider.bills())} requests were billed")
    least = samples / THREADS * delay + start
    what = f"evalset run MODEL SET, {samples} samples, {delay:g} s a request, {THREADS} threads"
    return [
        Figure(
            name="one eval through the gateway against its requests and the start of oaieval",
            ratio=ours / least,
            goal=1.15,
            unit="s",
            ours=ours,
            theirs=least,
            runs=runs,
            what=f"{what}; samples / threads x latency + docker run oaieval dummy, {start:.2f} s",
        ),
        Figure(
            name="one eval through the gateway against upstream's oaieval without",
            ratio=ours / upstreams,
            goal=0.8,
            unit="s",
            ours=ours,
            theirs=upstreams,
            runs=runs,
            what=f"{what}; the same with upstream's oaieval, without a container",
        ),
    ]


def replay(runs: int, samples: int = 1000) -> Figure:
    """An eval that is given all of its answers from the record, against asking for them."""
    with tempfile.TemporaryDirectory() as folder, stub(answer="{echo}") as provider:
        evals = Evals(Path(folder), provider, samples)
        asked, replayed = in_turn(evals.ours_anew, evals.ours_again, runs)
        if len(provider.bills()) != runs * samples:
            raise SystemExit(f"{len(provider.bills())} requests were billed")
    return Figure(
        name=f"replay of an eval of {samples} samples against a provider of 0 ms",
        ratio=replayed / asked,
        goal=1.3,
        unit="s",
        ours=replayed,
        theirs=asked,
        runs=runs,
        what="evalset run MODEL SET, all answers on record; the same with none",
    )


def first_container(runs: int) -> Figure:
    """How much later the first container is created with the gateway than without."""
    line: list[str | Path] = [EVALSET, "run", MODEL, "test-basic", "--run-command", "true"]
    with tempfile.TemporaryDirectory() as folder, stub() as provider:
        environment = {**os.environ, "EVALSET_PROGRESS_DIR": folder, "OPENAI_API_KEY": KEY}

        def created(*options: str, **variables: str) -> float:
            command = [*line, "--no-resume", *options]
            return until_created(command, {**environment, **variables}, MODEL)

        ours, theirs = in_turn(
            lambda: created(OPENAI_BASE_URL=f"{provider.url}/v1"),
            lambda: created("--no-gateway"),
            runs,
        )
    return Figure(
        name=f"how much later the first container is created with the gateway, of {LATER:g} s",
        ratio=(ours - theirs) / LATER,
        goal=1.0,
        unit="s",
        ours=ours - theirs,
        theirs=LATER,
        runs=runs,
        what=f"evalset run less the same with --no-gateway, {theirs:.3f} s, by the engine's create "
        "event; the provider answers at once; `theirs` is the limit",
    )

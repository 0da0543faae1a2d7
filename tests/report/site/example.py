"""A progress directory as runs of two models leave it, with questions that people can read."""

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
IMAGE = "sha256:" + "3f" * 32
EVALS = (
    "capital-cities.dev.v0",
    "arithmetic.dev.v0",
    "chess-openings.dev.v0",
    "date-reasoning.dev.v1",
    "formal-logic.dev.v0",
    "haiku-rhythm.dev.v0",
    "hindsight.dev.v0",
    "json-output.dev.v0",
    "legal-clauses.dev.v0",
    "map-distances.dev.v0",
    "medical-triage.dev.v2",
    "unit-conversion.dev.v0",
)
CITIES = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Norway": "Oslo",
    "Nepal": "Kathmandu",
    "Canada": "Ottawa",
    "Fiji": "Suva",
}


def write_example(
    root: Path,
    models: Iterable[tuple[str, float]] = (("aria-large", 0.8), ("aria-small", 0.72)),
    *,
    evals: Sequence[str] = EVALS,
    samples: int = 120,
    eval_set: str = "research",
    failing: Sequence[str] = ("json-output.dev.v0", "hindsight.dev.v0"),
) -> None:
    """Write the files of runs, each model with about this share of right answers."""
    for number, (model, skill) in enumerate(models):
        dice = _dice(f"{model} {skill}")
        clocks = {f"runner-{host}": START + timedelta(minutes=9 * number) for host in "ab"}
        finished, attempts = [], []
        commands = [["oaieval", model, name, "--max_samples", str(samples)] for name in evals]
        for place, (name, command) in enumerate(zip(evals, commands, strict=True)):
            host = f"runner-{'ab'[place % 2]}"
            fails = name in failing and number == 0
            seconds = 8 + 90 * dice.random()
            began, clocks[host] = clocks[host], clocks[host] + timedelta(seconds=seconds + 1)
            record = record_of(command, f"{number}{place:03}", host, began, seconds)
            console = f"evallogs/{record['attempt']}_{model}_{name}.console.log"
            record["console_log"] = console
            path = root / console
            path.parent.mkdir(parents=True, exist_ok=True)
            if fails:
                path.write_text(TRACEBACK)
                record |= FAILURES[failing.index(name)]
            else:
                path.write_text(f"[oaieval.py:215] Found {samples} samples\nall is well\n")
                ease = skill + 0.15 * (dice.random() - 0.5)
                log = f"evallogs/{record['attempt']}R_{model}_{name}.jsonl"
                record["final_report"] = write_log(root / log, name, model, samples, ease)
                record |= {"logs": [log], "samples": samples}
                finished.append(command)
            attempts.append(record)
        write_records(root, model, eval_set, commands, finished, attempts)


def write_records(
    root: Path,
    model: str,
    eval_set: str,
    commands: Sequence[Sequence[str]],
    finished: Iterable[Sequence[str]],
    attempts: Iterable[dict[str, Any]],
) -> None:
    """Write progress, attempts and the run's file of one model and eval set."""
    folder = root / "oaievalset"
    folder.mkdir(parents=True, exist_ok=True)
    start = folder / f"{model}.{eval_set}"
    start.parent.mkdir(parents=True, exist_ok=True)
    for ending, lines in (("progress.txt", finished), ("attempts.jsonl", attempts)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        start.with_name(f"{start.name}.{ending}").write_text(text)
    run = {
        "version": 1,
        "runner": "0.1.0",
        "run": "260302090000RUNRUNRU",
        "model": model,
        "eval_set": eval_set,
        "image": "evalset/evals:3.0.1.post1",
        "image_id": IMAGE,
        "image_digest": "sha256:" + "a9" * 32,
        "commands": list(commands),
        "shard": "2/2",
        "limits": {"memory": 4 * 2**30, "cpus": 2.0, "pids_limit": 1024, "timeout": 3600.0},
        "network": "evalset",
    }
    start.with_name(f"{start.name}.run.json").write_text(json.dumps(run))


def write_log(path: Path, name: str, model: str, samples: int, ease: float) -> dict[str, Any]:
    """Write an oaieval log; give its final report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    right = 0
    order = list(range(samples))
    _dice(name).shuffle(order)  # oaieval shuffles, too
    with path.open("w") as file:
        file.write(json.dumps({"spec": {"eval_name": name}}) + "\n")
        for place in order:
            # The same questions are hard for every model.
            hard = _dice(f"{name} {place}").random()
            luck = _dice(f"{name} {place} {model} {ease}").random() - 0.5
            correct = ease + 0.3 * luck > hard
            right += correct
            for event in events(name, place, model, correct=correct):
                file.write(json.dumps(event) + "\n")
        accuracy = right / samples if samples else 0.0
        report = {
            "accuracy": accuracy,
            "boostrap_std": (accuracy * (1 - accuracy) / max(samples, 1)) ** 0.5,
            "usage_prompt_tokens": 61 * samples,
            "usage_completion_tokens": 9 * samples,
            "usage_total_tokens": 70 * samples,
        }
        file.write(json.dumps({"final_report": report}) + "\n")
    return report


def events(name: str, place: int, model: str, *, correct: bool) -> list[dict[str, Any]]:
    """What oaieval logs of one sample: the call, and whether the answer is right."""
    country, city = list(CITIES.items())[place % len(CITIES)]
    other = list(CITIES.values())[(place + 3) % len(CITIES)]
    answer = city if correct else other
    prompt = [
        {"role": "system", "content": "Answer with the name of the city alone."},
        {"role": "user", "content": f"What is the capital of {country}? (question {place})"},
    ]
    about = {"run_id": "r", "sample_id": f"{name.rpartition('.')[0]}.{place}", "created_by": ""}
    usage = {"prompt_tokens": 61, "completion_tokens": 9, "total_tokens": 70}
    sampling = {"prompt": prompt, "sampled": [answer], "model": f"{model}-0613", "usage": usage}
    match = {"correct": correct, "expected": city, "picked": answer if correct else None}
    return [
        about | {"type": "sampling", "data": sampling, "event_id": 2 * place},
        about | {"type": "match", "data": match | {"sampled": answer}, "event_id": 2 * place + 1},
    ]


def _dice(seed: str) -> random.Random:
    """The same on every machine."""
    return random.Random(seed)  # noqa: S311 - nobody has to guess it


def record_of(
    command: Sequence[str], attempt: str, host: str, began: datetime, seconds: float
) -> dict[str, Any]:
    """An attempt that succeeded, without its logs."""
    return {
        "version": 1,
        "attempt": f"26030209{attempt}ATTEMPTS",
        "run": "260302090000RUNRUNRU",
        "host": host,
        "command": list(command),
        "eval": command[2],
        "result": "success",
        "exit_code": 0,
        "started_at": began.isoformat(),
        "ended_at": (began + timedelta(seconds=seconds)).isoformat(),
        "duration": seconds,
        "image": IMAGE,
    }


FAILURES: tuple[dict[str, Any], ...] = (
    {"result": "failure", "fault": "eval", "exit_code": 1, "reason": "exited with status 1"},
    {
        "result": "lost",
        "fault": "environment",
        "exit_code": None,
        "reason": "the engine lost the container",
    },
)
TRACEBACK = """\
[2026-03-02 09:03:11,208] [oaieval.py:215] Run started: 260302090311ABCD
Traceback (most recent call last):
  File "/opt/evals/bin/oaieval", line 8, in <module>
    sys.exit(main())
  File "/opt/evals/lib/python3.11/site-packages/evals/cli/oaieval.py", line 304, in main
    run(args)
  File "/opt/evals/lib/python3.11/site-packages/evals/eval.py", line 160, in get_samples
    return get_jsonl(self._prefix_registry_path(samples_path).as_posix())
FileNotFoundError: [Errno 2] No such file or directory: 'data/json-output/samples.jsonl'
"""

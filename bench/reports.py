"""Reports of many evals, against reading their logs line by line."""

import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench.figure import EVALSET, PYTHON, Figure, in_turn, measured, seconds

PROGRAMS = Path(__file__).with_name("programs")
WORDS = ("what", "is", "the", "capital", "of", "a", "country", "that", "lies", "between", "seas")


def _events(dice: random.Random, name: str, samples: int) -> Iterator[dict[str, object]]:
    """What oaieval logs of samples: a call, and whether its answer is right."""
    order = list(range(samples))
    dice.shuffle(order)
    for number in order:
        prompt = " ".join(dice.choices(WORDS, k=40))
        answer = " ".join(dice.choices(WORDS, k=8))
        about = {"run_id": "r" * 20, "event_id": 2 * number, "sample_id": f"{name}.{number}"}
        ending = {"created_by": "", "created_at": "2026-01-01 00:00:00.000000+00:00"}
        call = {
            "prompt": [{"role": "user", "content": prompt}],
            "sampled": [answer],
            "model": "m",
            "usage": {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59},
        }
        match = {"correct": dice.random() < 0.7, "expected": answer[:9], "picked": answer}  # noqa: PLR2004 - plain
        yield about | {"type": "sampling", "data": call} | ending
        yield about | {"type": "match", "data": match} | ending


def _write_runs(root: Path, evals: int, samples: int) -> None:
    dice = random.Random(1)  # noqa: S311 - the same on every machine
    (root / "evallogs").mkdir()
    (root / "oaievalset").mkdir()
    progress, attempts = [], []
    for number in range(evals):
        name = f"an-eval-with-a-usual-name-{number}.dev.v0"
        command = ["oaieval", "m", name]
        log = f"evallogs/{number:05}_m_{name}.jsonl"
        with (root / log).open("w") as file:
            for event in _events(dice, f"eval-{number}.dev", samples):
                file.write(json.dumps(event) + "\n")
        progress.append(json.dumps(command))
        record = {
            "attempt": f"{number:020}",
            "run": "r",
            "host": "h",
            "command": command,
            "eval": name,
            "result": "success",
            "started_at": "2026-01-01T00:00:00Z",
            "ended_at": f"2026-01-01T{number % 24:02}:{number % 60:02}:09Z",
            "duration": 60.0,
            "logs": [log],
            "final_report": {"accuracy": 0.7, "boostrap_std": 0.01},
            "samples": samples,
        }
        attempts.append(json.dumps(record))
    for ending, lines in (("progress.txt", progress), ("attempts.jsonl", attempts)):
        (root / f"oaievalset/m.s.{ending}").write_text("\n".join([*lines, ""]))


def of_many_samples(evals: int, samples: int, runs: int) -> list[Figure]:
    """A report of so many evals, its memory, and the weight of its first page."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "progress")
        root.mkdir()
        _write_runs(root, evals, samples)
        ours = (EVALSET, "report", "--progress-dir", root, "-o")
        theirs = (PYTHON, PROGRAMS / "read_logs.py", root / "evallogs")
        environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        seconds(theirs)  # both find the files in memory
        pairs = [
            (measured((*ours, Path(folder, str(n))), environ), measured(theirs, environ))
            for n in range(runs)
        ]
        report = Path(folder, "0")
        page = (report / "index.html").stat().st_size
        weight = page + sum(one.stat().st_size for one in (report / "assets").iterdir())
    times = sorted(mine[0] / other[0] for mine, other in pairs)
    middle = min(pairs, key=lambda pair: abs(pair[0][0] / pair[1][0] - times[runs // 2]))
    what = f"{evals} evals with {samples} samples each, two events a sample"
    return [
        Figure(
            name=f"report of {evals} evals with {samples} samples each, against json.loads",
            ratio=times[runs // 2],
            goal=3,
            unit="s",
            ours=middle[0][0],
            theirs=middle[1][0],
            runs=runs,
            what=f"{what}; evalset report against json.loads on each line of the same logs",
        ),
        Figure(
            name=f"memory of the same, of 200 MB ({evals} evals)",
            ratio=max(mine[1] for mine, _ in pairs) / 200,
            goal=1,
            unit="MB",
            ours=max(mine[1] for mine, _ in pairs),
            theirs=200,
            runs=runs,
            what=f"{what}; the peak of the process; limit is not a measurement",
        ),
        Figure(
            name=f"weight of the overview with {evals} evals, of 1.5 MB",
            ratio=weight / 1.5e6,
            goal=1,
            unit="MB",
            ours=weight / 1e6,
            theirs=1.5,
            runs=1,
            what="index.html and all assets, not compressed; limit is not a measurement",
        ),
    ]


# Both are measured from the start of the page's loading.
_OPENED = "() => { document.body.getBoundingClientRect(); return performance.now(); }"
_SORTED = """() => {
    const heads = [...document.querySelectorAll("th button")];
    heads.find(each => each.textContent.trim() == "Eval").click();
    document.body.getBoundingClientRect();
    return performance.now();
}"""


def of_overview(evals: int, runs: int) -> Figure:
    """Opening an overview in Chromium and sorting it, against opening its table alone."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder, "progress")
        root.mkdir()
        _write_runs(root, evals, 2)
        report = Path(folder, "report")
        environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        measured((EVALSET, "report", "--progress-dir", root, "-o", report), environ)
        bare = Path(folder, "bare.html")
        tables = re.findall(r"<table.*?</table>", (report / "index.html").read_text(), re.DOTALL)
        bare.write_text(f"<!doctype html><meta charset=utf-8>{max(tables, key=len)}")
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = chromium.new_page()

        def took(path: Path, script: str) -> float:
            page.goto("about:blank")
            page.goto(path.as_uri())
            return float(page.evaluate(script))

        ours, theirs = in_turn(
            lambda: took(report / "index.html", _SORTED), lambda: took(bare, _OPENED), runs
        )
        chromium.close()
    return Figure(
        name=f"opening and sorting an overview of {evals} evals, against its table alone",
        ratio=ours / theirs,
        goal=3,
        unit="ms",
        ours=ours,
        theirs=theirs,
        runs=runs,
        what="Chromium; the page sorted by a click, against the same table without style or script",
    )


def of_one_log(runs: int, events: int, megabytes: int) -> Figure:
    """The memory that one huge log takes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "progress")
        root.mkdir()
        _write_runs(root, 1, 0)
        (log,) = (root / "evallogs").iterdir()
        text = "x" * (megabytes * 1_000_000 // events)
        with log.open("w") as file:
            for number in range(events):
                data = {"prompt": text, "sampled": ["yes"], "model": "m"}
                line = {"sample_id": f"e.{number // 2}", "type": "sampling", "data": data}
                file.write(json.dumps(line) + "\n")
        ours = (EVALSET, "report", "--progress-dir", root, "-o", Path(folder, "report"))
        environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        peaks = [measured(ours, environ)[1] for _ in range(runs)]
    return Figure(
        name=f"memory of a report of one log of {megabytes} MB and {events} events, of 200 MB",
        ratio=max(peaks) / 200,
        goal=1,
        unit="MB",
        ours=max(peaks),
        theirs=200,
        runs=runs,
        what="the peak of the process; limit is not a measurement",
    )

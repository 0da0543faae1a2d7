"""Progress files, against upstream's class."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from bench.figure import PYTHON, UPSTREAM, Figure, in_turn

FINISHED = 10_000
ADDED = 4_000

PROGRAMS = Path(__file__).with_name("programs")


def _python(python: Path, program: str, *arguments: object) -> list[float]:
    """Run one of the programs next to this file; it prints numbers."""
    done = subprocess.run(
        [python, PROGRAMS / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OPENAI_API_KEY": "none"},
    )
    return [float(number) for number in done.stdout.split()]


def _command(number: int) -> list[str]:
    return ["oaieval", "gpt-4", f"eval-{number}.dev.v0", "--max_samples", "25"]


def resuming(runs: int) -> list[Figure]:
    """Load 10,000 finished commands and plan what is left, against fixed limits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "progress.txt")
        path.write_text("".join(json.dumps(_command(i)) + "\n" for i in range(FINISHED)))
        took = [_python(PYTHON, "resume.py", path, FINISHED) for _ in range(runs)]
    seconds = sorted(each[0] for each in took)[runs // 2]
    memory = max(each[1] for each in took)
    what = (
        f"a process that reads {FINISHED} finished commands and plans; limit is not a measurement"
    )
    return [
        Figure(
            name=f"loading and resuming {FINISHED} finished commands, of 0.5 s",
            ratio=seconds / 0.5,
            goal=1.0,
            unit="s",
            ours=seconds,
            theirs=0.5,
            runs=runs,
            what=what,
        ),
        Figure(
            name="memory of the same, of 100 MB",
            ratio=memory / 100,
            goal=1.0,
            unit="MB",
            ours=memory,
            theirs=100,
            runs=runs,
            what=what,
        ),
    ]


def adding(runs: int, together: int) -> Figure:
    """Add 4,000 commands, each on disk before the next, against upstream's class."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:

        def ours() -> float:
            path = Path(folder, f"ours-{time.time_ns()}.txt")
            return _python(PYTHON, "add.py", path, ADDED, together)[0]

        def theirs() -> float:
            path = Path(folder, f"theirs-{time.time_ns()}.txt")
            return _python(UPSTREAM / "python", "add_upstream.py", path, ADDED)[0]

        mine, other = in_turn(ours, theirs, runs)
    how = "one fsync each" if together == 1 else f"one fsync for {together} that ended together"
    return Figure(
        name=f"{ADDED} additions to the progress file, {how}: times faster than upstream",
        ratio=other / mine,
        goal=100,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what=f"ProgressFile.add_commands, {how}; upstream's Progress.add, no fsync",
        at_least=True,
    )


def growth(runs: int) -> Figure:
    """Time per addition of 8,000 against that of 1,000: 1 is linear."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:

        def each(count: int) -> float:
            path = Path(folder, f"{count}-{time.time_ns()}.txt")
            return _python(PYTHON, "add.py", path, count, 1)[0] / count

        many, few = in_turn(lambda: each(8000), lambda: each(1000), runs)
    return Figure(
        name="time per addition of 8,000 against that of 1,000 (linear is 1)",
        ratio=many / few,
        goal=1.3,
        unit="s",
        ours=many,
        theirs=few,
        runs=runs,
        what="ProgressFile.add_commands, one fsync each",
    )

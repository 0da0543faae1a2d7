import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
EVALSET = ROOT / ".venv/bin/evalset"
PYTHON = ROOT / ".venv/bin/python"
UPSTREAM = ROOT / ".venv-upstream/bin"
IMAGE = "evalset/evals:3.0.1.post1"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        name: what is compared.
        ratio: ours to theirs, of medians.
        goal: the ratio may be this at the most; for `at_least` figures, at the least.
        unit: of `ours` and `theirs`.
        ours: median.
        theirs: median.
        runs: how many of each, taken in turn.
        what: what was run.
        at_least: whether more is better.
    """

    name: str
    ratio: float
    goal: float
    unit: str
    ours: float
    theirs: float
    runs: int
    what: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def in_turn(
    ours: Callable[[], float], theirs: Callable[[], float], runs: int
) -> tuple[float, float]:
    """Medians of several runs of each, taken in turn so that both meet the same machine."""
    pairs = [(ours(), theirs()) for _ in range(runs)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def seconds(command: Sequence[str | Path], **settings: dict[str, str] | str | None) -> float:
    """Wall time of a command that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload] # passed on as they are
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return took


def measured(command: Sequence[str | Path], environ: Mapping[str, str]) -> tuple[float, float]:
    """Wall time of a command that must succeed, and the peak of its memory in MB."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(environ)) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return took, usage.ru_maxrss * 1024 / 1e6

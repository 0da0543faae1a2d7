"""A run of many evals that do nothing: what its process takes, and whether it slows down."""

import tempfile
from pathlib import Path

from bench.figure import IMAGE, Figure
from tests.conftest import Place
from tests.faults.many import Many, run_many

COUNT = 2000
AT_ONCE = 16

# Bytes that the runner may have in memory.
MEMORY = 120 * 10**6

# The first part of so many is left out where things have to settle: programs, caches, workers.
PARTS = 10

WHAT = f"evalset run --jobs {AT_ONCE}, containers of `true`"


def of_one_run() -> list[Figure]:
    """The figures of one run: memory, descriptors, and time per eval at its end and its start."""
    with tempfile.TemporaryDirectory() as folder:
        many = run_many(Place(Path(folder), Path(folder, "cache"), IMAGE), COUNT, at_once=AT_ONCE)
    if many.left.threads != ["MainThread"]:
        raise SystemExit(f"threads are left: {many.left.threads}")
    return [_memory(many), _descriptors(many), _time(many)]


def _memory(many: Many) -> Figure:
    return Figure(
        name=f"the runner's memory in a run of {COUNT} evals, {AT_ONCE} at once, of 120 MB",
        ratio=many.peak / MEMORY,
        goal=1.0,
        unit="MB",
        ours=many.peak / 10**6,
        theirs=MEMORY / 10**6,
        runs=1,
        what=f"{WHAT}; the most that was resident, `theirs` is the limit",
    )


def _descriptors(many: Many) -> Figure:
    last, first = many.part(PARTS - 1, PARTS), many.part(2, PARTS)
    return Figure(
        name=f"file descriptors in the last tenth of {COUNT} evals against the third",
        ratio=last.descriptors / first.descriptors,
        goal=1.05,
        unit="descriptors",
        ours=last.descriptors,
        theirs=first.descriptors,
        runs=1,
        what=f"{WHAT}; medians. By then each worker has its connection",
    )


def _time(many: Many) -> Figure:
    last, first = many.seconds(PARTS - 1, PARTS), many.seconds(0, PARTS)
    return Figure(
        name=f"time per eval in the last tenth of {COUNT} evals against the first",
        ratio=last / first,
        goal=1.2,
        unit="s",
        ours=last,
        theirs=first,
        runs=1,
        what=f"{WHAT}; between the ends of the first and the last eval of each tenth",
    )

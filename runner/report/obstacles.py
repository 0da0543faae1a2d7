from collections.abc import Mapping

from runner.plan.obstacles import Obstacle, grouped
from runner.report.text import evals

# Names of evals that a row shows; the others are counted.
_SHOWN = 8


def obstacle_lines(found: Mapping[str, Obstacle]) -> list[str]:
    """A table of the evals that cannot run, those with the same reason in one row, as lines."""
    if not found:
        return []
    from runner.report.table import drawn  # noqa: PLC0415 - rich takes its time, and few runs need it

    rows = []
    for obstacle, names in grouped(found).items():
        rest = len(names) - _SHOWN
        shown = "\n".join([*names[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])])
        rows.append((str(len(names)), shown, f"{obstacle.why}; {obstacle.cure}"))
    verb = "cannot run, and is" if len(found) == 1 else "cannot run, and are"
    title = f"{evals(len(found))} {verb} left out"
    return [title, *drawn(("", "evals", "why, and what to do"), rows)]

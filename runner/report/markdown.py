import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from runner.report.rows import Row
from runner.report.score import main_score
from runner.report.text import duration, one_line

# What asks for attention comes first, what has gone well last.
_ORDER = ("failed", "lost", "running", "to do", "done")
_LONGEST = 200


def section(
    model: str,
    eval_set: str,
    rows: Sequence[Row],
    *,
    part: str = "",
    level: int = 3,
    limit: int | None = None,
) -> str:
    """A heading with the model and the eval set, the summary, and the table.

    Args:
        model: as given.
        eval_set: as given.
        rows: of the table.
        part: what of the eval set these are, in words of ours; empty for all of it.
        level: of the heading, from 1 to 6.
        limit: of the table's rows.
    """
    heading = f"{'#' * level} {code(model)} {code(eval_set)}"
    line = "; ".join(filter(None, (summary(rows), part)))
    blocks = (heading, line, table(rows, limit=limit))
    return "\n\n".join(block.rstrip("\n") for block in blocks if block) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """How far a run is, in a few words: `12 of 40 finished, 1 failed`."""
    counts = Counter(row.state for row in rows)
    words = [f"{counts['done']} of {len(rows)} finished"]
    words += [f"{counts[state]} {state}" for state in _ORDER[:3] if counts[state]]
    return ", ".join(words)


def table(rows: Sequence[Row], *, limit: int | None = None) -> str:
    """Rows as a table in GitHub's Markdown, those that ask for attention first.

    Names and reasons come from registries, models and containers. As code they are text and
    nothing else: neither markup nor HTML, and nobody is mentioned.

    Args:
        rows: in any order, which is kept within a state.
        limit: of the rows shown; a line below says what is left out. None shows all.
    """
    if not rows:
        return ""
    ordered = sorted(rows, key=lambda row: _ORDER.index(row.state))
    shown = ordered if limit is None else ordered[:limit]
    lines = ["| eval | state | score | samples | time | tries |", "|---|---|--:|--:|--:|--:|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in shown]
    if left_out := ordered[len(shown) :]:
        lines += ["", _more(left_out)]
    return "\n".join(lines) + "\n"


@lru_cache(maxsize=4096)  # a branch's page is made anew with every snapshot
def code(text: str) -> str:
    """Text as a span of code that has nothing but this text in it."""
    text = one_line(text).strip()
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    if not text:
        return ""
    # A span ends at as many backticks as it began with.
    runs = {len(found) for found in re.findall("`+", text)}
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _in_cell(text: str) -> str:
    """The same in a table, whose cells GitHub looks for before it looks for code.

    https://github.github.com/gfm/#example-200
    """
    return code(text).replace("|", "\\|")


def _cells(row: Row) -> tuple[str, ...]:
    name = _in_cell(row.eval)
    notes = [_in_cell(note) for note in (row.arguments, row.reason) if note]
    score = main_score(row.final_report)
    return (
        "<br>".join([name, *notes]),
        f"**{row.state}**" if row.state in {"failed", "lost"} else row.state,
        f"{_in_cell(score.name)} {score.value:.3g}" if score else "",
        str(row.samples) if row.attempts else "",
        "" if row.duration is None else duration(row.duration),
        str(row.attempts) if row.attempts else "",
    )


def _more(rows: Sequence[Row]) -> str:
    counts = Counter(row.state for row in rows)
    noun = "eval" if len(rows) == 1 else "evals"
    if set(counts) == {"done"}:
        return f"... and {len(rows)} more finished {noun}"
    which = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    return f"... and {len(rows)} more {noun}: {which}"

import os
from pathlib import Path

from runner.record.layout import Layout

# More than this many bytes at the end are not looked at.
LONGEST_TAIL = 16384


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of what an eval printed, as its code wrote them: not safe for a terminal."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LONGEST_TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    # What a progress bar wrote over is gone for a person, too.
    found = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return tuple([line for line in found if line][-lines:])


def tail_below(layout: Layout, name: str, lines: int) -> tuple[str, ...]:
    """The last lines of a console log that a record names."""
    path = below(layout, name)
    return () if path is None else tail(path, lines)


def below(layout: Layout, name: str) -> Path | None:
    """Where a console log is that a record names, which may come from another host.

    None for what is not below `evallogs/`, wherever a name or a link leads.
    """
    path = (layout.root / name).resolve()
    return path if path.is_relative_to(layout.evallogs.resolve()) else None

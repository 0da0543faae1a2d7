from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from runner.record.files import named, sync_folder


def keep_dated(paths: Iterable[Path]) -> list[Path]:
    """Give those of some files that exist a name with a date, all the same, and return that."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    moved = []
    for path in paths:
        if path.exists():
            target = path.with_name(f"{path.name}.{stamp}")
            with named(path, "rename"):
                path.rename(target)
            moved.append(target)
    for folder in {path.parent for path in moved}:
        sync_folder(folder)
    return moved

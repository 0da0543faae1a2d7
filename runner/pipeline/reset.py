from datetime import UTC, datetime
from pathlib import Path

from runner.record.files import named, sync_folder
from runner.record.layout import Layout


def set_aside(layout: Layout) -> list[Path]:
    """Give the files of earlier runs a dated name, and return their new paths."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    moved = []
    for path in layout.kept:
        if path.exists():
            target = path.with_name(f"{path.name}.{stamp}")
            with named(path, "rename"):
                path.rename(target)
            moved.append(target)
    if moved:
        sync_folder(layout.progress.parent)
    return moved

from datetime import UTC, datetime
from pathlib import Path

from runner.errors import UsageError
from runner.plan.names import check_names
from runner.record.files import named, sync_folder
from runner.record.layout import Layout
from runner.record.lock import RunLock


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


def reset(root: Path, model: str, eval_set: str) -> list[Path]:
    """Set a model and eval set's files aside, unless a live run writes them."""
    check_names(model, eval_set)
    layout = Layout(root=root.resolve(), model=model, eval_set=eval_set)
    if not any(path.exists() for path in layout.kept):
        raise UsageError(
            f"{layout.root} has no progress of {model} {eval_set}; "
            "`evalset list progress` shows what it has"
        )
    with RunLock(layout.lock):
        return set_aside(layout)

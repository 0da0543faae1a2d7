from pathlib import Path

from runner.errors import UsageError
from runner.plan.names import check_names
from runner.record.dated import keep_dated
from runner.record.layout import Layout
from runner.record.lock import RunLock


def set_aside(layout: Layout) -> list[Path]:
    """Give the files of earlier runs a dated name, and return their new paths."""
    return keep_dated(layout.kept)


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

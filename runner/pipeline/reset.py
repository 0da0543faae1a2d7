from collections.abc import Callable
from pathlib import Path

from runner.errors import EnvironmentFault, UsageError
from runner.execute.engine import Engine
from runner.pipeline.clean import Cleaned, clean_one
from runner.pipeline.options import Host
from runner.plan.names import check_names
from runner.record.dated import keep_dated
from runner.record.layout import Layout
from runner.record.lock import RunLock


def reset(
    root: Path,
    model: str,
    eval_set: str,
    host: Host,
    *,
    new_id: Callable[[], str],
    warn: Callable[[str], None],
) -> tuple[list[Path], Cleaned]:
    """Set a model and eval set's files aside, unless a live run writes them.

    What a killed run left is cleaned up first: else the next run would go on with it.

    Returns:
        The files' new paths, and what was cleaned up.
    """
    check_names(model, eval_set)
    layout = Layout(root=root.resolve(), model=model, eval_set=eval_set)
    if not any(path.exists() for path in layout.kept):
        raise UsageError(
            f"{layout.root} has no progress of {model} {eval_set}; "
            "`evalset list progress` shows what it has"
        )
    with RunLock(layout.lock):
        try:
            cleaned = clean_one(Engine(), layout, host, run=new_id())
        except EnvironmentFault:
            cleaned = Cleaned()
            warn(
                "no Docker engine answers; what a killed run left there the next run goes on with, "
                "unless `evalset clean` removes it first"
            )
        return keep_dated(layout.kept), cleaned

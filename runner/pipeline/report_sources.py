from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runner.errors import UsageError
from runner.pipeline.branch_status import both_tips
from runner.pipeline.options import SnapshotOptions
from runner.pipeline.prepare import this_host
from runner.pipeline.sharing import branch_of
from runner.pipeline.status import running_commands
from runner.plan.names import check_names
from runner.record import attempts, progress, run_file
from runner.record.known import known_commands
from runner.record.layout import Layout, scan
from runner.record.passing import passing_folder
from runner.report.facts import Source
from runner.report.rows import rows_of
from runner.share.arrival import arrive
from runner.share.state import Reader

# A model and an eval set.
Pair = tuple[str, str]


def pairs_of(names: Sequence[str]) -> list[Pair]:
    """Models and eval sets by turns, as they are typed.

    Raises:
        UsageError: one is missing, or leads elsewhere.
    """
    if len(names) % 2:
        raise UsageError(f"`{names[-1]}` has no eval set; give MODEL EVAL_SET, once for each run")
    pairs = list(dict.fromkeys(zip(names[::2], names[1::2], strict=True)))
    for model, eval_set in pairs:
        check_names(model, eval_set)
    return pairs


def sources_of(
    root: Path, pairs: Sequence[Pair], *, note: str = "", ask: bool = False
) -> list[Source]:
    """What a progress directory has of these models and eval sets, or of all that it has.

    Args:
        root: the progress directory.
        pairs: models and eval sets; none is all.
        note: what tells these runs apart from others of the same.
        ask: whether the engine is asked what runs now.

    Raises:
        UsageError: it has nothing of one of them, or nothing at all.
    """
    root = root.resolve()
    layouts = [Layout(root=root, model=one, eval_set=other) for one, other in pairs]
    found = [_source(layout, note, ask=ask) for layout in layouts or scan(root)]
    for layout, one in zip(layouts, found, strict=False):
        if one is None:
            raise UsageError(
                f"{root} has no progress of {layout.model} {layout.eval_set}; "
                "`evalset list progress` shows what it has"
            )
    known = [one for one in found if one is not None]
    if not known:
        raise UsageError(f"{root} has no progress; run `evalset run` first, or name --progress-dir")
    return known


@contextmanager
def branch_folder(root: Path, options: SnapshotOptions, name: str) -> Iterator[Path]:
    """All that a progress branch has, as a progress directory that is there for the while.

    Args:
        root: the progress directory, where a repository of our own may be.
        options: where the branch is.
        name: of the branch.
    """
    with (
        passing_folder("report") as place,
        branch_of(options, root.resolve(), this_host(), name=name) as (branch, remote, _),
    ):
        for tip in both_tips(branch, remote):
            for part in Reader().parts(branch.states(tip), source=f"branch {name}"):
                layout = Layout(root=place, model=part.model, eval_set=part.eval_set)
                arrive(branch, tip, layout, warn=lambda _: None)
        yield place


def _source(layout: Layout, note: str, *, ask: bool) -> Source | None:
    run = run_file.read(layout.run)
    finished = progress.read(layout.progress)
    past = attempts.read(layout.attempts)
    commands = known_commands(run, finished, past.records)
    if not commands:
        return None
    running = running_commands(layout) if ask else ()
    rows = rows_of(commands, finished=finished, records=past.records, running=running)
    return Source(
        layout=layout,
        model=layout.model,
        eval_set=layout.eval_set,
        note=note,
        run=run,
        commands=commands,
        rows=rows,
        records=past.records,
        damaged=tuple(
            filter(None, (*finished.damaged, *past.damaged, run_file.problem(layout.run)))
        ),
    )

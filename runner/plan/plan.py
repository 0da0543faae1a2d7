from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from runner.job import ContainerSettings, Job
from runner.plan.commands import build_command, container_registries
from runner.plan.finished import FinishedCommands
from runner.plan.selection import choose
from runner.plan.shard import Shard, take
from runner.plan.why import Past, how_done, why_to_do


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The ordered jobs of a run, split into done and to do.

    Attributes:
        model: as given.
        eval_set: as given.
        whole: all jobs of this selection, before the shard was taken, in order.
        jobs: those of this shard, in order.
        done: those of the shard that a progress file holds.
        todo: the others.
        why: for each job to do, by its key, why it is.
        how: for each job that is done, by its eval, when and where it was finished.
        finished: evals that are finished with this model and these arguments, those of other
            shards and selections among them.
        warnings: one line each.
    """

    model: str
    eval_set: str
    whole: tuple[Job, ...]
    jobs: tuple[Job, ...]
    done: tuple[Job, ...]
    todo: tuple[Job, ...]
    why: dict[str, str]
    how: dict[str, str]
    finished: frozenset[str]
    warnings: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of jobs before the shard was taken."""
        return len(self.whole)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The commands of all shards, in order."""
        return tuple(job.command for job in self.whole)


def make_plan(
    *,
    model: str,
    eval_set: str,
    evals: Sequence[str],
    settings: Callable[[str], ContainerSettings],
    run_command: str = "oaieval",
    passed_through: Sequence[str] = (),
    registry_paths: Sequence[str] = (),
    paths_as_typed: bool = False,
    done: Iterable[tuple[str, ...] | str] = (),
    past: Mapping[tuple[str, ...], Past] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
    shard: Shard | None = None,
) -> Plan:
    """Decide what a run has to do.

    Args:
        model: as given.
        eval_set: as given.
        evals: resolved keys, in order.
        settings: gives an eval's container settings.
        run_command: the program.
        passed_through: arguments for the program.
        registry_paths: as typed.
        paths_as_typed: whether commands carry the registry paths as typed (the drop-in, as
            upstream) or as the container sees them (`evalset`). Either counts as finished.
        done: finished commands: argvs, or for the older format their text.
        past: what is on record of attempts, by the command.
        names: for each key the names, aliases too, that a selection may use for it.
        select: patterns of the evals to run; none selects all.
        exclude: patterns of the evals to leave out.
        shard: the part to take; None is all.

    Raises:
        UsageError: a selection matches nothing, or leaves nothing.
    """
    chosen, warnings = choose(evals, names or {}, select, exclude)
    finished = FinishedCommands(
        done,
        run_command=run_command,
        model=model,
        passed_through=passed_through,
        registry_paths=registry_paths,
    )
    finished.add_evals(chosen)
    command = partial(
        build_command, run_command=run_command, model=model, passed_through=passed_through
    )
    whole = _jobs(chosen, command, settings, registry_paths, paths_as_typed=paths_as_typed)
    jobs = whole if shard is None else take(whole, shard)
    todo = tuple(job for job in jobs if job.eval not in finished.evals)
    done_jobs = tuple(job for job in jobs if job.eval in finished.evals)
    past = past or {}
    return Plan(
        model=model,
        eval_set=eval_set,
        whole=whole,
        jobs=jobs,
        done=done_jobs,
        todo=todo,
        why={job.key: why_to_do(_of(job, past), finished.otherwise(job.eval)) for job in todo},
        how={job.eval: how_done(_of(job, past)) for job in done_jobs},
        finished=frozenset(finished.evals),
        warnings=warnings,
    )


def _jobs(
    evals: Iterable[str],
    command: Callable[..., tuple[str, ...]],
    settings: Callable[[str], ContainerSettings],
    registry_paths: Sequence[str],
    *,
    paths_as_typed: bool,
) -> tuple[Job, ...]:
    """The jobs of evals: what is recorded of them, and what their containers run."""
    seen = container_registries(len(registry_paths))
    recorded = registry_paths if paths_as_typed else seen
    return tuple(
        Job(
            command=command(eval=key, registry_paths=recorded),
            argv=command(eval=key, registry_paths=seen),
            eval=key,
            settings=settings(key),
        )
        for key in evals
    )


def _of(job: Job, past: Mapping[tuple[str, ...], Past]) -> Past | None:
    return past.get(job.command) or past.get(job.argv)

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from runner.errors import UsageError
from runner.job import ContainerSettings, Job
from runner.plan.closest import did_you_mean
from runner.plan.commands import build_command, container_registries, identities
from runner.plan.pattern import matching
from runner.plan.shard import Shard, take

NOT_RUN = "not run yet"


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record of a job's attempts that did not succeed.

    Attributes:
        count: of attempts.
        last: the reason of the latest, one line.
    """

    count: int
    last: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The ordered jobs of a run, split into done and to do.

    Attributes:
        model: as given.
        eval_set: as given.
        jobs: all of this shard and selection, in order.
        done: those that a progress file holds.
        todo: the others.
        why: for each job to do, by its key, why it is.
        total: the number of jobs before the shard was taken.
        warnings: one line each.
    """

    model: str
    eval_set: str
    jobs: tuple[Job, ...]
    done: tuple[Job, ...]
    todo: tuple[Job, ...]
    why: dict[str, str]
    total: int
    warnings: tuple[str, ...] = ()


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
    failures: Mapping[str, Failures] | None = None,
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
        failures: what is on record, by the job's key.
        names: for each key the names, aliases too, that a selection may use for it.
        select: patterns of the evals to run; none selects all.
        exclude: patterns of the evals to leave out.
        shard: the part to take; None is all.

    Raises:
        UsageError: a selection matches nothing, or leaves nothing.
    """
    chosen, warnings = _choose(evals, names or {}, select, exclude)
    finished = set(done)
    part = chosen if shard is None else take(chosen, shard)
    jobs: list[Job] = []
    done_jobs: list[Job] = []
    todo: list[Job] = []
    for key in part:
        command = partial(
            build_command,
            run_command=run_command,
            model=model,
            eval=key,
            passed_through=passed_through,
        )
        argv = command(registry_paths=container_registries(len(registry_paths)))
        job = Job(
            command=command(registry_paths=registry_paths) if paths_as_typed else argv,
            argv=argv,
            eval=key,
            settings=settings(key),
        )
        jobs.append(job)
        forms = identities(
            run_command=run_command,
            model=model,
            eval=key,
            passed_through=passed_through,
            registry_paths=registry_paths,
        )
        is_done = any(form in finished or " ".join(form) in finished for form in forms)
        (done_jobs if is_done else todo).append(job)
    return Plan(
        model=model,
        eval_set=eval_set,
        jobs=tuple(jobs),
        done=tuple(done_jobs),
        todo=tuple(todo),
        why=_why(todo, failures or {}),
        total=len(chosen),
        warnings=warnings,
    )


def _why(todo: Sequence[Job], failures: Mapping[str, Failures]) -> dict[str, str]:
    return {key: _reason(failures.get(key)) for key in (job.key for job in todo)}


def _reason(failures: Failures | None) -> str:
    if failures is None or failures.count == 0:
        return NOT_RUN
    times = "once" if failures.count == 1 else f"{failures.count} times"
    return f"failed {times}, last: {failures.last or 'no reason on record'}"


def _choose(
    evals: Sequence[str],
    names: Mapping[str, Sequence[str]],
    select: Sequence[str],
    exclude: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply the selection; an exclusion that matches nothing harms nobody and is a warning."""
    evals = tuple(dict.fromkeys(evals))
    if not select and not exclude:
        return evals, ()
    keys: dict[str, list[str]] = {}
    for key in evals:
        for name in dict.fromkeys([key, *names.get(key, ())]):
            keys.setdefault(name, []).append(key)

    def covered(pattern: str) -> set[str]:
        return {key for name in matching(pattern, keys) for key in keys[name]}

    selected = set() if select else set(evals)
    for pattern in select:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys)
            raise UsageError(f"--select `{pattern}` matches no eval of the set{hint}")
        selected |= found
    warnings = []
    for pattern in exclude:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys)
            warnings.append(f"--exclude `{pattern}` matches no eval of the set{hint}")
        selected -= found
    if not selected:
        raise UsageError(f"--select and --exclude leave none of the set's {len(evals)} evals")
    return tuple(key for key in evals if key in selected), tuple(warnings)

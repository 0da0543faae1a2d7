from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from runner.model import ContainerSettings, Job, build_command, container_registries, identities
from runner.plan.selection import Shard, select_evals, take_shard

NOT_RUN = "not run yet"


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempt of a job that succeeded.

    Attributes:
        attempt: its id.
        number: which attempt of the job it was, counted from 1.
        host: that it ran on.
        ended_at: UTC, RFC 3339.
    """

    attempt: str
    number: int
    host: str
    ended_at: str


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record of a job's attempts.

    Attributes:
        ended: how many there are.
        failed: how many failed.
        lost: how many were lost.
        last: the reason of the latest that did not succeed, one line.
        success: the newest one; None when there is none.
    """

    ended: int = 0
    failed: int = 0
    lost: int = 0
    last: str = ""
    success: Success | None = None


def why_to_do(past: Past | None, otherwise: str = "") -> str:
    """Say why a job is to do, on one line.

    Args:
        past: its attempts.
        otherwise: with which other arguments the same eval is finished.
    """
    parts = [*_taken_out(past), *_spoiled(past)] or [NOT_RUN]
    return "; ".join([*parts, *([otherwise] if otherwise else [])])


def how_done(past: Past | None) -> str:
    """Say when, where and in which attempt a job was finished, on one line."""
    if past is None or past.success is None:
        return "finished; no attempt of it is on record"
    return _finished(past.success)


def _finished(success: Success) -> str:
    return (
        f"finished {success.ended_at} on {success.host}, attempt {success.number}: "
        f"{success.attempt}"
    )


def _taken_out(past: Past | None) -> list[str]:
    if past is None or past.success is None:
        return []
    return [f"{_finished(past.success)}, but its line was taken out of the progress file"]


def _spoiled(past: Past | None) -> list[str]:
    if past is None or not past.failed + past.lost:
        return []
    counts = [
        f"{word} {'once' if count == 1 else f'{count} times'}"
        for word, count in (("failed", past.failed), ("lost", past.lost))
        if count
    ]
    return [f"{' and '.join(counts)}, last: {past.last or 'no reason on record'}"]


# program, model, eval: what every command begins with
_START = 3


class FinishedCommands:
    """Finished commands, looked up by the eval that they are of.

    Attributes:
        evals: those that are finished with this run's program, model and arguments, whatever
            its selection and shard.
    """

    def __init__(
        self,
        done: Iterable[tuple[str, ...] | str],
        *,
        run_command: str,
        model: str,
        passed_through: Sequence[str],
        registry_paths: Sequence[str],
    ) -> None:
        """Sort finished commands: argvs, or for the older format their text."""
        self._start = (run_command, model)
        forms = identities(
            run_command=run_command,
            model=model,
            eval="",
            passed_through=passed_through,
            registry_paths=registry_paths,
        )
        self._endings = {form[_START:] for form in forms}
        self._folders = {ending[len(passed_through) :] for ending in self._endings}
        self._texts = set()
        self._others: dict[str, list[tuple[str, ...]]] = {}
        self.evals: set[str] = set()
        for command in done:
            if isinstance(command, str):
                self._texts.add(command)
            elif len(command) < _START:
                continue
            elif command[:2] == self._start and command[_START:] in self._endings:
                self.evals.add(command[2])
            else:
                self._others.setdefault(command[2], []).append(command)

    def add_evals(self, evals: Sequence[str]) -> None:
        """Find these in the older format, too, in which an eval cannot be told from the rest."""
        if self._texts:
            texts = [(" ".join((*self._start, "")), " ".join(("", *end))) for end in self._endings]
            self.evals |= {
                key for key in evals for start, end in texts if start + key + end in self._texts
            }

    def otherwise(self, eval: str) -> str:  # noqa: A002 - upstream's word, and ours
        """Say with which other arguments an eval is finished; empty when it is not."""
        said = []
        for command in self._others.get(eval, ()):
            if command[:2] == self._start:
                said.append(" ".join(self._told_apart(command[_START:])))
            else:
                said.append(f"`{' '.join(command)}`")
        found = []
        if "" in said:
            found.append("finished without arguments")
        if any(said):
            found.append(f"finished with other arguments: {'; '.join(filter(None, said))}")
        return "; ".join(found)

    def _told_apart(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Leave out registry folders that are this run's as well."""
        for folders in self._folders:
            start = arguments[: len(arguments) - len(folders)]
            if arguments == (*start, *folders):
                return start
        return arguments


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
    chosen, warnings = select_evals(evals, names or {}, select, exclude)
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
    jobs = whole if shard is None else take_shard(whole, shard)
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

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.model import Command, ContainerSettings, Job, container_registries
from runner.options import RunOptions
from runner.registry.resolve import names_matching


def select_evals(
    evals: Sequence[str],
    names: Mapping[str, Sequence[str]],
    select: Sequence[str],
    exclude: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply a selection; an exclusion that matches nothing is only a warning.

    Args:
        evals: resolved keys, in order.
        names: for each key the names, aliases too, that a pattern may use for it.
        select: patterns of the evals to run; none selects all.

    Returns:
        The selected keys, each once and in order, and the warnings.

    Raises:
        UsageError: a selection matches nothing, or everything is excluded.
    """
    evals = tuple(dict.fromkeys(evals))
    if not select and not exclude:
        return evals, ()
    keys: dict[str, list[str]] = {}
    for key in evals:
        for name in dict.fromkeys([key, *names.get(key, ())]):
            keys.setdefault(name, []).append(key)

    def covered(pattern: str) -> set[str]:
        return {key for name in names_matching(pattern, keys) for key in keys[name]}

    selected = set() if select else set(evals)
    for pattern in select:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys) or "`evalset list evals` shows all"
            raise UsageError(f"--select `{pattern}` matches no eval of the set", hint)
        selected |= found
    warnings = []
    for pattern in exclude:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys)
            warnings.append(
                f"--exclude `{pattern}` matches no eval of the set{hint and f'; {hint}'}"
            )
        selected -= found
    if not selected:
        raise UsageError(
            f"--select and --exclude leave none of the set's {len(evals)} evals",
            "change one of them",
        )
    return tuple(key for key in evals if key in selected), tuple(warnings)


Item = TypeVar("Item")


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """The `index`-th of `count` disjoint parts of a plan, counted from 1."""

    index: int
    count: int


def parse_shard(text: str) -> Shard:
    """Read `I/N`.

    Raises:
        UsageError: it is not of that form, or I is not from 1 to N.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if found is None:
        raise UsageError(f"shard `{text}` is not of the form I/N, as 2/4 for the second of four")
    index, count = int(found[1]), int(found[2])
    if not 1 <= index <= count:
        raise UsageError(f"shard `{text}`: I in I/N goes from 1 to N")
    return Shard(index=index, count=count)


def take_shard(items: Sequence[Item], shard: Shard) -> tuple[Item, ...]:
    """Deal the items out in turn, and give those of this shard.

    Neighbours in a plan are often alike and take alike long, so that turns balance better than
    blocks. Pass all items, finished ones too. Otherwise hosts that know of different progress
    would divide differently, and run an eval twice or not at all.
    """
    return tuple(items[shard.index - 1 :: shard.count])


NOT_RUN = "not run yet"


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempt of a job that succeeded.

    Attributes:
        attempt: its id.
        number: which attempt of the job it was, counted from 1.
        ended_at: UTC, RFC 3339.
    """

    attempt: str
    number: int
    host: str
    ended_at: str


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record of a job's attempts.

    Attributes:
        ended: how many there are, including the `failed` and `lost` ones.
        last: the reason of the latest that did not succeed, one line.
    """

    ended: int = 0
    failed: int = 0
    lost: int = 0
    last: str = ""
    success: Success | None = None


def why_to_do(past: Past | None, otherwise: str = "") -> str:
    """Why a job has to run, on one line.

    Args:
        past: its attempts.
        otherwise: other arguments with which the same eval is finished, in words.
    """
    past = past or Past()
    parts = []
    if past.success is not None:
        taken_out = "but its line was taken out of the progress file"
        parts.append(f"{_finished(past.success)}, {taken_out}")
    counts = [
        f"{word} {'once' if count == 1 else f'{count} times'}"
        for word, count in (("failed", past.failed), ("lost", past.lost))
        if count
    ]
    if counts:
        parts.append(f"{' and '.join(counts)}, last: {past.last or 'no reason on record'}")
    return "; ".join(filter(None, [*(parts or [NOT_RUN]), otherwise]))


def how_done(past: Past | None) -> str:
    """When, where and in which attempt a job was finished, on one line."""
    if past is None or past.success is None:
        return "finished; no attempt of it is on record"
    return _finished(past.success)


def _finished(success: Success) -> str:
    return (
        f"finished {success.ended_at} on {success.host}, attempt {success.number}: "
        f"{success.attempt}"
    )


class FinishedCommands:
    """Finished commands, looked up by their eval.

    Args:
        done: as for `make_plan`.
        evals: looked for in the older format, too, in which an eval cannot be told from the rest.
        options: the run whose evals they may be.

    Attributes:
        evals: those that are finished with this run's program, model and arguments, whatever
            its selection and shard.
    """

    def __init__(
        self, done: Iterable[Command | str], evals: Iterable[str], options: RunOptions
    ) -> None:
        self._start = (options.run_command, options.model)
        self._endings = arguments_of(options)
        self._folders = {ending[len(options.passed_through) :] for ending in self._endings}
        self._others: dict[str, list[Command]] = {}
        self.evals: set[str] = set()
        texts = set()
        for command in done:
            if isinstance(command, str):
                texts.add(command)
            elif self._is_ours(command) and command.arguments in self._endings:
                self.evals.add(command.eval)
            elif command.is_whole:
                self._others.setdefault(command.eval, []).append(command)
        if texts:
            self.evals |= {
                key
                for key in evals
                for ending in self._endings
                if " ".join((*self._start, key, *ending)) in texts
            }

    def otherwise(self, eval: str) -> str:  # noqa: A002 - upstream's word, and ours
        """The other arguments with which an eval is finished, in words; empty if it is not."""
        said = [
            " ".join(self._told_apart(command.arguments))
            if self._is_ours(command)
            else f"`{' '.join(command)}`"
            for command in self._others.get(eval, ())
        ]
        found = ["finished without arguments"] if "" in said else []
        if any(said):
            found.append(f"finished with other arguments: {'; '.join(filter(None, said))}")
        return "; ".join(found)

    def _is_ours(self, command: Command) -> bool:
        return command.is_whole and command[:2] == self._start

    def _told_apart(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """The arguments without registry folders that this run has as well."""
        for folders in self._folders:
            start = arguments[: len(arguments) - len(folders)]
            if arguments == (*start, *folders):
                return start
        return arguments


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The ordered jobs of a run, split into finished and to do.

    Attributes:
        whole: all jobs of this selection, before the shard was taken, in order.
        jobs: those of this shard, in order.
        done: those of the shard that a progress file holds.
        todo: those of the shard that are to run.
        unable: those of the shard that are not finished and cannot run here.
        why: for each job, by its key, why it is to do, or when and where it was finished.
        finished: evals that are finished with this model and these arguments, including those of
            other shards and selections.
        warnings: one line each.
    """

    whole: tuple[Job, ...]
    jobs: tuple[Job, ...]
    done: tuple[Job, ...]
    todo: tuple[Job, ...]
    unable: tuple[Job, ...] = ()
    why: dict[str, str]
    finished: frozenset[str]
    warnings: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[Command, ...]:
        """The commands of all shards, in order."""
        return tuple(job.command for job in self.whole)


def make_plan(
    options: RunOptions,
    *,
    evals: Sequence[str],
    settings: Callable[[str], ContainerSettings],
    done: Iterable[Command | str] = (),
    past: Mapping[Command, Past] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    shard: Shard | None = None,
    obstacles: Mapping[str, str] | None = None,
) -> Plan:
    """Decide what a run has to do.

    Args:
        evals: resolved keys, in order.
        settings: gives an eval's container settings.
        done: finished commands; for the older format their text.
        names: for each key the names, aliases too, that a selection may use for it.
        obstacles: why evals cannot run here, by key.

    Raises:
        UsageError: a selection matches nothing, or leaves nothing.
    """
    chosen, warnings = select_evals(evals, names or {}, options.select, options.exclude)
    finished = FinishedCommands(done, chosen, options)
    start = (options.run_command, options.model)
    seen = _arguments(options, container_registries(len(options.registry_paths)))
    recorded = _arguments(options, options.registry_paths) if options.as_typed else seen
    whole = tuple(
        Job(
            command=Command((*start, key, *recorded)),
            argv=Command((*start, key, *seen)),
            settings=settings(key),
        )
        for key in chosen
    )
    jobs = whole if shard is None else take_shard(whole, shard)
    done_jobs = tuple(job for job in jobs if job.eval in finished.evals)
    unfinished = tuple(job for job in jobs if job.eval not in finished.evals)
    obstacles = obstacles or {}
    todo = tuple(job for job in unfinished if job.eval not in obstacles)
    unable = tuple(job for job in unfinished if job.eval in obstacles)

    def past_of(job: Job) -> Past | None:
        return (past or {}).get(job.command) or (past or {}).get(job.argv)

    why = {job.key: how_done(past_of(job)) for job in done_jobs}
    why |= {job.key: why_to_do(past_of(job), finished.otherwise(job.eval)) for job in todo}
    why |= {job.key: f"cannot run: {obstacles[job.eval]}" for job in unable}
    return Plan(
        whole=whole,
        jobs=jobs,
        done=done_jobs,
        todo=todo,
        unable=unable,
        why=why,
        finished=frozenset(finished.evals),
        warnings=warnings,
    )


def arguments_of(options: RunOptions) -> tuple[tuple[str, ...], ...]:
    """What may follow an eval's name in a progress file if this run skips the eval, each once.

    With the container's registry paths, as `evalset` records it, with the paths as typed, as the
    drop-in records it, and as upstream records several paths.
    """
    paths = options.registry_paths
    forms = [_arguments(options, each) for each in (container_registries(len(paths)), paths)]
    if paths:
        forms.append((*options.passed_through, "--registry_path", *paths))
    return tuple(dict.fromkeys(forms))


def _arguments(options: RunOptions, registry_paths: Sequence[str]) -> tuple[str, ...]:
    """What follows an eval's name in its command.

    Upstream writes several registry paths as `--registry_path a b`, which `oaieval` rejects; here
    the option comes once for each. With one path, or none, the command is upstream's.
    """
    folders = (part for path in registry_paths for part in ("--registry_path", path))
    return (*options.passed_through, *folders)

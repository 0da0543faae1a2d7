from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from runner.engine.attempt import LocalAttempts
from runner.engine.engine import Engine, EngineWait, as_environment_fault
from runner.engine.leftovers import Leftover, discard, find_leftovers
from runner.engine.run_facts import RunFacts
from runner.host import Host
from runner.model import Attempt, Command, ContainerSettings, Job, Result, Task
from runner.plan.plan import Plan
from runner.records.folders import remove_unused
from runner.records.layout import Layout
from runner.records.progress import AttemptsFile, ProgressFile
from runner.records.state import RunState, StateReader
from runner.run.prepare import Prepared


class Recorder(AbstractContextManager["Recorder"]):
    """Writes what happened; it alone writes these files while the run's lock is held.

    Args:
        reader: that has read the files before.

    Attributes:
        run: id of the run.
        changed: whether `complete` had to add anything.
    """

    def __init__(self, layout: Layout, *, run: str, reader: StateReader | None = None) -> None:
        self.run = run
        self._progress = ProgressFile(layout.progress)
        self._attempts = AttemptsFile(layout.attempts)
        state = RunState.from_directory(layout, reader)  # only now nobody else changes them
        # What each attempt on record finished, if anything; whole records would take much memory.
        self._finished_by = {record.id: _finished_by(record) for record in state.attempts}
        self._finished = set(state.finished.commands)
        self.changed = False

    def __exit__(self, *_: object) -> None:
        self._progress.close()
        self._attempts.close()

    def record(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts on disk, all with one fsync a file; they are durable when this returns.

        Successes go into the progress file first, so that none runs again after a crash in between.
        """
        finished = {attempt.id: _finished_by(attempt) for attempt in attempts}
        self._finish(finished.values())
        self._attempts.add_records(*attempts)
        self._finished_by.update(finished)

    def complete(self, attempt: str) -> bool:
        """Whether an attempt is on record; a line that its record lacks is added.

        Somebody may have removed a line from the progress file, or an older version may have been
        killed between writing the two files.
        """
        if attempt not in self._finished_by:
            return False
        self.changed |= self._finish([self._finished_by[attempt]])
        return True

    def has(self, attempt: str) -> bool:
        """Whether an attempt is on record."""
        return attempt in self._finished_by

    def _finish(self, commands: Iterable[Command | None]) -> bool:
        finished = dict.fromkeys(
            each for each in commands if each is not None and each not in self._finished
        )
        if finished:
            self._progress.add_commands(*finished)
            self._finished.update(finished)
        return bool(finished)


def _finished_by(attempt: Attempt) -> Command | None:
    return attempt.command if attempt.result is Result.SUCCESS else None


# The settings of containers whose own are no longer known; nothing is started with them.
_UNKNOWN = ContainerSettings(
    image="", memory=0, cpus=None, pids_limit=0, gpus=None, timeout=0, network="none"
)


def recover(
    prepared: Prepared, host: Host, recorder: Recorder, plan: Plan
) -> tuple[list[Task], int]:
    """Look for containers that an earlier run left when it was killed.

    Containers are removed if their outcome is on record, if they still run although their job is
    finished, and in any case if the run starts over. It takes over those of jobs that are to do. Of
    the others, those that have ended are recorded, and those that run are counted.

    Returns:
        The tasks to take over, and the number of running containers that the run has no job for.
    """
    api = prepared.engine.api
    todo = {job.key: job for job in plan.todo}
    done = {job.key for job in plan.done}
    taken = []
    others = 0
    with as_environment_fault():
        for leftover in find_leftovers(api, prepared.layout, host.name):
            key = leftover.command.key
            if (
                not prepared.options.resume
                or recorder.complete(leftover.attempt)
                or (key in done and leftover.running)
            ):
                discard(api, leftover)
            elif job := todo.get(key):
                taken.append(_task(job, leftover))
            elif leftover.running:
                others += 1
            else:
                record_ended(prepared.engine, prepared.layout, host, recorder, leftover)
    remove_unused(prepared.layout.root)
    return taken, others


def record_ended(
    engine: Engine, layout: Layout, host: Host, recorder: Recorder, leftover: Leftover
) -> None:
    """Record the outcome of a container that ended while no run looked, and remove it."""
    shared = RunFacts(
        layout=layout,
        run=recorder.run,
        host=host.name,
        images={},
        registries={},
        environment={},
        user=host.user,
        cpus=1,
    )
    job = Job(command=leftover.command, argv=leftover.command, settings=_UNKNOWN)
    engine_wait = EngineWait(engine, limit=0, tell=lambda _: None)
    attempts = LocalAttempts(engine, shared, engine_wait)
    with attempts.run(
        _task(job, leftover), on_start=lambda _: None, on_success=lambda: None
    ) as outcome:
        recorder.record([outcome])


def _task(job: Job, leftover: Leftover) -> Task:
    return Task(
        job=job, attempt=leftover.attempt, container=leftover.container, created=leftover.created
    )

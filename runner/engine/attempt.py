import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import msgspec

from runner.data import paths
from runner.engine import docker_py
from runner.engine.container import (
    CannotRun,
    Container,
    ContainerSpec,
    ContainerState,
    environment_of,
    remove,
)
from runner.engine.ending import Ending, await_end, judge, now, since
from runner.engine.engine import Engine, EngineWait, explain
from runner.engine.image_probe import CANNOT_START, NO_SUCH_COMMAND, lacks_program
from runner.engine.leftovers import remove_attempt
from runner.engine.live import LiveContainer, LiveContainers, follow_samples, tmp_watched
from runner.engine.run_facts import RunFacts
from runner.files import make_folder, named
from runner.gateway.messages import Account
from runner.model import Attempt, Result, Task
from runner.records.folders import Collected, collect, private_folder, remove_private
from runner.records.layout import Layout
from runner.records.logs import summarise
from runner.secrets import Mask


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """How the container of an attempt ended; what it left is in the attempt's private folder.

    Attributes:
        seconds: from start to end.
        image: its id; empty where that is not known.
        environment: its variables, no value of which gets into a record.
        container: the engine's id of it; empty if there never was one.
    """

    ending: Ending
    seconds: float = 0.0
    image: str = ""
    environment: dict[str, str] = {}
    container: str = ""


class ContainerAttempts:
    """Makes attempts in containers of an engine, and judges nothing.

    Args:
        engine: the engine.
        shared: what all attempts share.
        engine_wait: waits for an engine that went away.

    Attributes:
        mask: removes values of variables from what is shown.
        live: the containers of attempts under way.
    """

    def __init__(self, engine: Engine, shared: RunFacts, engine_wait: EngineWait) -> None:
        self._engine = engine
        self._shared = shared
        self.mask = Mask(shared.environment)
        self._engine_wait = engine_wait
        self.live = LiveContainers(engine)

    def _queued(self, attempt: str) -> float:
        """Seconds in which an attempt waited for its turn at a provider."""
        gateway = self._shared.gateway
        return gateway.account(attempt).waited if gateway else 0.0

    def _account(self, attempt: str) -> Account | None:
        """What an attempt that has ended did at the gateway, which serves it no more."""
        gateway = self._shared.gateway
        return gateway.leave(attempt) if gateway else None

    def made(
        self, task: Task, *, on_start: Callable[[str], None], on_success: Callable[[], None]
    ) -> AbstractContextManager[Made]:
        """Make an attempt: in a new container, or in the one that an earlier run started.

        The container and the attempt's folder are removed when the `with` block ends. If it ends
        with an error they are kept, so that the next run finds them.

        Args:
            task: what to run.
            on_start: told the container's id when it runs.
            on_success: told when it has succeeded, before the logs are collected.
        """
        if task.container:
            return self._take_over(task, on_start, on_success)
        return self._new(task, on_start, on_success)

    @contextlib.contextmanager
    def _new(
        self, task: Task, on_start: Callable[[str], None], on_success: Callable[[], None]
    ) -> Iterator[Made]:
        spec = self._shared.spec(task.job, task.attempt)
        try:
            with private_folder(self._shared.layout, task.attempt):
                if data := self._shared.data.get(task.job.eval):
                    paths.lay_out(data.lock.paths, spec.private)
                container = Container.create(self._engine.api, spec)
        except BaseException as error:
            remove_private(self._shared.layout, task.attempt)
            self._account(task.attempt)
            if not isinstance(error, docker_py.ERRORS):
                raise
            self._waited_for_engine(error)
            # The engine may have created it all the same.
            remove_attempt(self._engine.api, task.attempt)
            yield _never_ran(explain(error), spec)
            return
        with self._held(container, task) as live:
            began = time.monotonic()
            if (refused := self._start(container, spec)) is not None:
                yield _never_ran(refused, spec, container.id)
                return
            on_start(container.id)
            self.live.runs(container.id)
            ending = self._await_end(container, live, task, 0, on_success)
            took = time.monotonic() - began
            made = self._ended(container, task, ending, took, spec.environment)
            self._require_program(made, task, spec)
            yield made

    @contextlib.contextmanager
    def _take_over(
        self, task: Task, on_start: Callable[[str], None], on_success: Callable[[], None]
    ) -> Iterator[Made]:
        """Take over a container that an earlier run started."""
        container = Container(self._engine.api, task.container)
        if self._shared.gateway is not None:
            self._shared.gateway.enter(task.job, task.attempt)
        with self._held(container, task) as live:
            on_start(container.id)
            self.live.runs(container.id)
            before = self._state(container)
            watched = before is not None and before.running
            spent = _ran_for(before, task.created, watched=watched)
            ending = self._await_end(container, live, task, spent, on_success)
            took = _ran_for(ending.state, task.created, watched=watched)
            known = environment_of(self._engine.api, container.id)
            yield self._ended(container, task, ending, took, {**self._shared.environment, **known})

    def _ended(
        self,
        container: Container,
        task: Task,
        ending: Ending,
        seconds: float,
        environment: Mapping[str, str],
    ) -> Made:
        """The end of a container; what it printed is put into its place."""
        console = self._shared.layout.console_log(task.attempt, task.job.eval)
        make_folder(console.parent)
        # In this order, because the errors of requests are OSErrors as well.
        with named(console, "write"), contextlib.suppress(*docker_py.ERRORS):
            self._engine_wait.retry(lambda: container.save_console(console))
        return Made(
            ending=ending,
            seconds=seconds,
            image=ending.state.image if ending.state else "",
            environment=dict(environment),
            container=container.id,
        )

    def _start(self, container: Container, spec: ContainerSpec) -> str | None:
        """Start a container; return why it does not run, or None if it does."""
        try:
            container.start(spec)
        except docker_py.ERRORS as error:
            # An engine that goes away may have started it before it could say so.
            if self._waited_for_engine(error):
                state = self._state(container)
                if state is not None and state.started_at is not None:
                    return None
            return explain(error)
        return None

    def _waited_for_engine(self, error: Exception) -> bool:
        """Whether something failed because the engine had gone away; if so, wait for it."""
        refused = isinstance(error, docker_py.DockerException)
        if refused or not isinstance(error, docker_py.RequestException):
            return False
        self._engine_wait.wait(error)
        return True

    def _state(self, container: Container) -> ContainerState | None:
        try:
            return self._engine_wait.retry(container.state)
        except docker_py.ERRORS:
            return None

    @contextlib.contextmanager
    def _held(self, container: Container, task: Task) -> Iterator[LiveContainer]:
        """A container while it is an attempt; it is removed unless the attempt was not recorded."""
        live = LiveContainer(
            id=container.id,
            attempt=task.attempt,
            eval=task.job.eval,
            tmp_limit=task.job.settings.tmp_limit,
            absences=self._engine_wait.absences,
        )
        with self.live.holding(live):
            try:
                yield live
            except CannotRun:
                self._remove(container, task.attempt)
                raise
            if not container.keep:
                self._remove(container, task.attempt)

    def _remove(self, container: Container, attempt: str) -> None:
        """Delete the attempt's folder, then its container, which leads there."""
        self._account(attempt)
        remove_private(self._shared.layout, attempt)
        remove(self._engine.api, container.id)

    def _await_end(
        self,
        container: Container,
        live: LiveContainer,
        task: Task,
        spent: float,
        on_success: Callable[[], None],
    ) -> Ending:
        folder = self._shared.layout.private(task.attempt)
        with tmp_watched(self.live, live, folder):
            ending = await_end(
                container,
                task.job.settings.timeout - spent,
                self._engine_wait,
                absences=live.absences,
                unwatched=bool(task.container),
                queued=lambda: self._queued(task.attempt),
            )
        container.keep = ending.unkillable
        account = self._account(task.attempt)
        ending = msgspec.structs.replace(ending, cut=self.live.cut(container.id), account=account)
        if judge(ending, task.job.settings).result is Result.SUCCESS:
            on_success()
        return ending

    def _require_program(self, made: Made, task: Task, spec: ContainerSpec) -> None:
        """End the run where its program cannot run; an eval's own words do not suffice."""
        console = self._shared.layout.console_log(task.attempt, task.job.eval)
        if made.ending.exit_code not in CANNOT_START or not console.exists():
            return
        with console.open("rb") as file:
            if file.read(len(NO_SUCH_COMMAND)) != NO_SUCH_COMMAND:
                return
        if lacks_program(self._engine.api, spec):
            job = task.job
            raise CannotRun(
                f"image {job.settings.image} has no command {job.argv.program!r} that can run",
                "choose another --image or --run-command",
            )


def _never_ran(reason: str, spec: ContainerSpec, container: str = "") -> Made:
    return Made(
        ending=Ending(lost=reason),
        image=spec.image,
        environment=dict(spec.environment),
        container=container,
    )


class LocalAttempts(ContainerAttempts):
    """Makes attempts on this host's engine, puts their logs into their place, and judges them."""

    def follow(self, container: str, tell: Callable[[int, int], None]) -> None:
        """Be told how many samples of an eval are finished."""
        follow_samples(self._engine, container, tell)

    @contextlib.contextmanager
    def run(
        self, task: Task, *, on_start: Callable[[str], None], on_success: Callable[[], None]
    ) -> Iterator[Attempt]:
        """Make an attempt as `made` does, and tell how it ended."""
        with self.made(task, on_start=on_start, on_success=on_success) as made:
            shared = self._shared
            yield outcome_of(task, made, shared.layout, run=shared.run, host=shared.host)


def outcome_of(task: Task, made: Made, layout: Layout, *, run: str, host: str) -> Attempt:
    """The attempt of a container that ended; its logs are put into their place.

    Files of a container that still runs stay where they are, because it could change them. No
    value of its variables gets into the attempt.

    Args:
        run: id of the run that records it.
        host: name of the host that it ran on.
    """
    job, ending = task.job, made.ending
    mask = Mask(made.environment, public=job.command)
    console = layout.console_log(task.attempt, job.eval)
    collected = Collected()
    if not ending.unkillable:
        collected = collect(layout, task.attempt, shown=mask.text)
    found = summarise(layout.root / log for log in collected.logs)
    ending = msgspec.structs.replace(ending, reported=found.reported)
    state = ending.state
    warnings = [*collected.warnings, *found.warnings]
    if ending.account is not None:
        warnings += [f"the gateway refused it: {text}" for text in ending.account.refused]
    judgement = judge(ending, job.settings)
    if judgement.result is Result.SUCCESS and not found.reported:
        warnings.append("its log has no final_report")
    return Attempt(
        id=task.attempt,
        run=run,
        host=host,
        command=job.command,
        eval=job.eval,
        result=judgement.result,
        fault=judgement.fault,
        reason=mask.text(judgement.reason),
        exit_code=ending.exit_code,
        oom_killed=ending.oom_killed,
        started_at=state.started_at if state else None,
        ended_at=(state and state.ended_at) or now(),
        duration=round(made.seconds, 3),
        image=made.image,
        logs=collected.logs,
        console_log=str(console.relative_to(layout.root)) if console.exists() else None,
        final_report=mask.value(found.final_report),
        samples=found.samples,
        warnings=tuple(map(mask.text, warnings)),
        spending=ending.account.spending if ending.account else None,
    )


def _ran_for(state: ContainerState | None, created: str, *, watched: bool) -> float:
    """Seconds for which a container that an earlier run created has run.

    Args:
        state: as the engine knows it.
        created: when it was created, as `ending.stamp` has it.
        watched: whether it still runs, or has ended only now; then the wall clock does not count.
    """
    if state is None or state.started_at is None:
        return 0.0
    passed = since(created)
    if watched and passed is not None:
        return passed
    end = datetime.now(UTC)
    if not state.running and state.ended_at:
        end = datetime.fromisoformat(state.ended_at)
    by_the_engine = max(0.0, (end - datetime.fromisoformat(state.started_at)).total_seconds())
    return by_the_engine if passed is None else min(by_the_engine, passed)

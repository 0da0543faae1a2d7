import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.engine.container import CannotRun, Container, ContainerSpec, State, handed_in_to
from runner.engine.ending import Ending, await_end, judge, now, since, stamp
from runner.engine.engine import Absence, Engine, explain
from runner.engine.leftovers import Label, Running, remove_attempt
from runner.engine.live import Live, LiveContainer, TmpWatch
from runner.engine.probe import CANNOT_START, NO_SUCH_COMMAND, lacks_program
from runner.files import make_folder, named
from runner.model import Attempt, Job, Result
from runner.records.collect import Collected, collect
from runner.records.folders import private_folder, remove_private
from runner.records.layout import Layout
from runner.records.logs import summarise
from runner.secrets import Mask


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a run share.

    Attributes:
        layout: where files go.
        run: id of the run.
        host: name of this host.
        images: ids of images by the names that jobs use.
        registries: container path by host folder.
        environment: values by variable name, for all that any job may name.
        user: `uid:gid` inside the containers.
        cpus: that the engine has; no container can get more.
    """

    layout: Layout
    run: str
    host: str
    images: Mapping[str, str]
    registries: Mapping[Path, str]
    environment: Mapping[str, str]
    user: str
    cpus: int

    def spec(self, job: Job, attempt: str) -> ContainerSpec:
        """What the container of an attempt is created from."""
        settings = job.settings
        if settings.cpus and settings.cpus > self.cpus:
            settings = msgspec.structs.replace(settings, cpus=float(self.cpus))
        values = {name: self.environment[name] for name in settings.env}
        return ContainerSpec(
            image=self.images[settings.image],
            argv=job.argv,
            private=self.layout.private(attempt),
            mounts=self.registries,
            environment={"HOME": "/tmp", **values},  # noqa: S108 - inside the container
            labels={
                Label.RUN: self.run,
                Label.JOB: job.key,
                Label.COMMAND: json.dumps(job.command),
                Label.ATTEMPT: attempt,
                Label.HOST: self.host,
                Label.PROGRESS: str(self.layout.root),
                Label.MODEL: self.layout.model,
                Label.EVAL_SET: self.layout.eval_set,
                Label.CREATED: stamp(),
            },
            user=self.user,
            settings=settings,
        )


def outcome_of(
    container: Container,
    job: Job,
    attempt: str,
    ending: Ending,
    state: State | None,
    *,
    duration: float,
    around: Surroundings,
    absence: Absence,
    handed_in: Mapping[str, str],
) -> Attempt:
    """Put together what is known of an attempt that ended, with its logs in their place.

    What a container that still runs has in its folder stays there, for it could change it. No value
    that it was handed in gets into the outcome.
    """
    layout = around.layout
    mask = Mask(handed_in, public=job.command)
    console = layout.console_log(attempt, job.eval)
    make_folder(console.parent)
    # In this order, for what requests raises is an OSError as well.
    with named(console, "write"), contextlib.suppress(DockerException, RequestException):
        absence.through(lambda: container.save_console(console))
    collected = Collected() if ending.unkillable else collect(layout, attempt, shown=mask.text)
    found = summarise(layout.root / log for log in collected.logs)
    verdict = judge(msgspec.structs.replace(ending, reported=found.reported), job.settings)
    warnings = [*collected.warnings, *found.warnings]
    if verdict.result is Result.SUCCESS and not found.reported:
        warnings.append("its log has no final_report")
    return Attempt(
        id=attempt,
        run=around.run,
        host=around.host,
        command=job.command,
        eval=job.eval,
        result=verdict.result,
        fault=verdict.fault,
        reason=mask.text(verdict.reason),
        exit_code=ending.exit_code,
        oom_killed=ending.oom_killed,
        started_at=state.started_at if state else None,
        ended_at=(state and state.ended_at) or now(),
        duration=round(duration, 3),
        image=state.image if state else "",
        logs=collected.logs,
        console_log=str(console.relative_to(layout.root)) if console.exists() else None,
        final_report=mask.value(found.final_report),
        samples=found.samples,
        warnings=tuple(map(mask.text, warnings)),
    )


def never_ran(
    job: Job, attempt: str, reason: str, spec: ContainerSpec, around: Surroundings
) -> Attempt:
    """The outcome of an attempt whose container did not start."""
    said = Mask(spec.environment, public=job.command).text(reason)
    verdict = judge(Ending(lost=said), job.settings)
    return Attempt(
        id=attempt,
        run=around.run,
        host=around.host,
        command=job.command,
        eval=job.eval,
        result=verdict.result,
        fault=verdict.fault,
        reason=verdict.reason,
        ended_at=now(),
        image=spec.image,
    )


def ran_for(state: State | None, created: str, *, watched: bool) -> float:
    """Seconds that a container has run which an earlier run created.

    Args:
        state: as the engine knows it.
        created: when it was created, as `clock.stamp` has it.
        watched: whether it still runs, or has ended only now: then no clock that is set counts.
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


class Attempts:
    """Makes attempts.

    Attributes:
        mask: takes what evals were handed in out of what is shown.
        live: the containers of those that are going on.
    """

    def __init__(self, engine: Engine, surroundings: Surroundings, absence: Absence) -> None:
        self._engine = engine
        self._around = surroundings
        self.mask = Mask(surroundings.environment)
        self._absence = absence
        self.live = Live(engine)
        self._tmp_watch = TmpWatch(surroundings.layout, self.live)

    @contextlib.contextmanager
    def new(
        self,
        job: Job,
        attempt: str,
        on_start: Callable[[str], None],
        on_success: Callable[[], None],
    ) -> Iterator[Attempt]:
        """Run a job in a new container, which is removed when the `with` block ends.

        Args:
            job: what to run.
            attempt: id for the attempt.
            on_start: told the container's id when it runs.
            on_success: told when it has ended well, before the outcome is put together.
        """
        spec = self._around.spec(job, attempt)
        try:
            with private_folder(self._around.layout, attempt):
                container = Container.create(self._engine.api, spec)
        except (DockerException, RequestException) as error:
            remove_private(self._around.layout, attempt)
            self._after_an_absence(error)
            # The engine may have created it all the same.
            remove_attempt(self._engine.api, attempt)
            yield never_ran(job, attempt, explain(error), spec, self._around)
            return
        except BaseException:
            remove_private(self._around.layout, attempt)
            raise
        with self._held(container, job, attempt) as live:
            began = time.monotonic()
            if (refused := self._start(container, spec)) is not None:
                yield never_ran(job, attempt, refused, spec, self._around)
                return
            on_start(container.id)
            self.live.runs(container.id)
            end = self._await_end(container, live, job, job.settings.timeout, on_success)
            took = time.monotonic() - began
            outcome = self._outcome(
                container, job, attempt, *end, duration=took, handed_in=spec.environment
            )
            self._require_command(outcome, job, spec)
            yield outcome

    @contextlib.contextmanager
    def adopted(
        self,
        running: Running,
        on_start: Callable[[str], None],
        on_success: Callable[[], None],
    ) -> Iterator[Attempt]:
        """Go on with a container that an earlier run started, as if this one had."""
        container = Container(self._engine.api, running.container)
        job = running.job
        with self._held(container, job, running.attempt) as live:
            on_start(container.id)
            self.live.runs(container.id)
            before = self._state(container)
            watched = before is not None and before.running
            spent = ran_for(before, running.created, watched=watched)
            end = self._await_end(
                container, live, job, job.settings.timeout - spent, on_success, unwatched=True
            )
            took = ran_for(end[1], running.created, watched=watched)
            known = handed_in_to(self._engine.api, container.id)
            handed_in = {**self._around.environment, **known}
            yield self._outcome(
                container, job, running.attempt, *end, duration=took, handed_in=handed_in
            )

    def _start(self, container: Container, spec: ContainerSpec) -> str | None:
        """Start a container, and tell why it does not run, if it does not."""
        try:
            container.start(spec)
        except (DockerException, RequestException) as error:
            # An engine that goes away may have started it before it could say so.
            if self._after_an_absence(error):
                state = self._state(container)
                if state is not None and state.started_at is not None:
                    return None
            return explain(error)
        return None

    def _after_an_absence(self, error: Exception) -> bool:
        """Wait, where that is why something went wrong, for the engine; tell whether it was."""
        if isinstance(error, DockerException) or not isinstance(error, RequestException):
            return False
        self._absence.wait(error)
        return True

    def _state(self, container: Container) -> State | None:
        try:
            return self._absence.through(container.state)
        except (DockerException, RequestException):
            return None

    @contextlib.contextmanager
    def _held(self, container: Container, job: Job, attempt: str) -> Iterator[LiveContainer]:
        """The container's life as an attempt; one with an outcome that was not recorded is kept."""
        live = LiveContainer(
            id=container.id,
            attempt=attempt,
            eval=job.eval,
            tmp_limit=job.settings.tmp_limit,
            absences=self._absence.noticed,
        )
        with self.live.holding(live), container:
            try:
                yield live
            except CannotRun:
                self._clear(container, attempt)
                raise
            except BaseException:
                container.keep = True
                raise
            if not container.keep:
                self._clear(container, attempt)

    def _clear(self, container: Container, attempt: str) -> None:
        """Delete the attempt's folder; its container stays until then, for it is found by that."""
        container.keep = True
        remove_private(self._around.layout, attempt)
        container.keep = False

    def _await_end(
        self,
        container: Container,
        live: LiveContainer,
        job: Job,
        seconds: float,
        on_success: Callable[[], None],
        *,
        unwatched: bool = False,
    ) -> tuple[Ending, State | None]:
        with self._tmp_watch.watching(live):
            ending, state = await_end(
                container, seconds, self._absence, noticed=live.absences, unwatched=unwatched
            )
        container.keep = ending.unkillable
        ending = msgspec.structs.replace(ending, cut=self.live.cut(container.id))
        if judge(ending, job.settings).result is Result.SUCCESS:
            on_success()
        return ending, state

    def _outcome(
        self,
        container: Container,
        job: Job,
        attempt: str,
        ending: Ending,
        state: State | None,
        *,
        duration: float,
        handed_in: Mapping[str, str],
    ) -> Attempt:
        return outcome_of(
            container,
            job,
            attempt,
            ending,
            state,
            duration=duration,
            around=self._around,
            absence=self._absence,
            handed_in=handed_in,
        )

    def _require_command(self, outcome: Attempt, job: Job, spec: ContainerSpec) -> None:
        """End the run where its program cannot run; an eval's own words do not suffice."""
        if outcome.exit_code not in CANNOT_START or outcome.console_log is None:
            return
        with (self._around.layout.root / outcome.console_log).open("rb") as file:
            if file.read(len(NO_SUCH_COMMAND)) != NO_SUCH_COMMAND:
                return
        if lacks_program(self._engine.api, spec):
            raise CannotRun(
                f"image {job.settings.image} has no command {job.argv.program!r} that "
                "can run; choose another --image or --run-command"
            )

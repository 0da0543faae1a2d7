import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.execute.container import CannotRun, Container, ContainerSpec, State
from runner.execute.engine import Engine, explain
from runner.execute.image import Image
from runner.execute.labels import Label
from runner.execute.left import Running
from runner.execute.verdict import Ending, judge
from runner.execute.watch import await_end
from runner.job import Job, Outcome, Result
from runner.record.collect import collect, make_private, remove_private
from runner.record.evallog import summarise
from runner.record.files import make_folder, named
from runner.record.layout import Layout

# What tini, the init process of every container, prints when there is no such program.
NO_SUCH_COMMAND = b"[FATAL tini"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a run share.

    Attributes:
        layout: where files go.
        run: id of the run.
        host: name of this host.
        images: by the names that jobs use.
        registries: container path by host folder.
        environment: values by variable name, for all that any job may name.
        user: `uid:gid` inside the containers.
        cpus: that the engine has; no container can get more.
    """

    layout: Layout
    run: str
    host: str
    images: Mapping[str, Image]
    registries: Mapping[Path, str]
    environment: Mapping[str, str]
    user: str
    cpus: int


class Attempts:
    """Makes attempts, and ends those that are running when it is told to."""

    def __init__(self, engine: Engine, surroundings: Surroundings) -> None:
        self._engine = engine
        self._around = surroundings
        self._containers: dict[str, str] = {}
        self._stopping: str | None = None
        self._signal = "SIGTERM"
        # Why, by container: those that were still running when they got the signal.
        self._stopped: dict[str, str] = {}

    @contextlib.contextmanager
    def new(
        self,
        job: Job,
        attempt: str,
        on_start: Callable[[str], None],
        on_success: Callable[[], None],
    ) -> Iterator[Outcome]:
        """Run a job in a new container, which is removed when the `with` block ends.

        Args:
            job: what to run.
            attempt: id for the attempt.
            on_start: told the container's id when it runs.
            on_success: told when it has ended well, before the outcome is put together.
        """
        private = make_private(self._around.layout, attempt)
        spec = self._spec(job, attempt, private)
        try:
            container = Container.create(self._engine.api, spec)
        except (DockerException, RequestException) as error:
            remove_private(self._around.layout, attempt)
            yield self._never_ran(job, attempt, explain(error))
            return
        except BaseException:
            remove_private(self._around.layout, attempt)
            raise
        with self._held(container, attempt):
            began = time.monotonic()
            try:
                container.start(spec)
            except (DockerException, RequestException) as error:
                yield self._never_ran(job, attempt, explain(error))
                return
            on_start(container.id)
            self._end_if_late(container)
            end = self._await_end(container, job, job.settings.timeout, on_success)
            took = time.monotonic() - began
            outcome = self._outcome(container, job, attempt, *end, duration=took)
            _require_command(outcome, self._around.layout)
            yield outcome

    @contextlib.contextmanager
    def adopted(
        self,
        running: Running,
        on_start: Callable[[str], None],
        on_success: Callable[[], None],
    ) -> Iterator[Outcome]:
        """Go on with a container that an earlier run started, as if this one had."""
        container = Container(self._engine.api, running.container)
        with self._held(container, running.attempt):
            on_start(container.id)
            self._end_if_late(container)
            job = running.job
            seconds = job.settings.timeout - _spent_so_far(container)
            end = self._await_end(container, job, seconds, on_success, unwatched=True)
            yield self._outcome(container, job, running.attempt, *end, duration=_spent(end[1]))

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """Signal every running container to end, or kill it; their attempts count as lost."""
        self._signal = "SIGKILL" if kill else "SIGTERM"
        self._stopping = why
        for container_id in list(self._containers.values()):
            self._end(container_id, why)

    def _end(self, container_id: str, why: str) -> None:
        # Before the signal, for whoever waits for the container may be faster than its answer.
        before = self._stopped.get(container_id)
        self._stopped[container_id] = why
        try:
            self._engine.api.kill(container_id, self._signal)
        except (DockerException, RequestException):
            if before is None:
                del self._stopped[container_id]
            else:
                self._stopped[container_id] = before

    def _end_if_late(self, container: Container) -> None:
        """Signal a container that came to run while `end_all` went over those that it knew."""
        if self._stopping is not None:
            self._end(container.id, self._stopping)

    @contextlib.contextmanager
    def _held(self, container: Container, attempt: str) -> Iterator[None]:
        """The container's life as an attempt; one with an outcome that was not recorded is kept."""
        self._containers[attempt] = container.id
        try:
            with container:
                try:
                    yield
                except CannotRun:
                    remove_private(self._around.layout, attempt)
                    raise
                except BaseException:
                    container.keep = True
                    raise
                remove_private(self._around.layout, attempt)
        finally:
            del self._containers[attempt]

    def _spec(self, job: Job, attempt: str, private: Path) -> ContainerSpec:
        around = self._around
        settings = job.settings
        if settings.cpus and settings.cpus > around.cpus:
            settings = msgspec.structs.replace(settings, cpus=float(around.cpus))
        values = {name: around.environment[name] for name in settings.env}
        return ContainerSpec(
            image=around.images[settings.image].id,
            argv=job.argv,
            private=private,
            mounts=around.registries,
            environment={"HOME": "/tmp", **values},  # noqa: S108 - inside the container
            labels={
                Label.RUN: around.run,
                Label.JOB: job.key,
                Label.COMMAND: json.dumps(job.command),
                Label.ATTEMPT: attempt,
                Label.HOST: around.host,
                Label.PROGRESS: str(around.layout.root),
                Label.MODEL: around.layout.model,
                Label.EVAL_SET: around.layout.eval_set,
            },
            user=around.user,
            settings=settings,
        )

    def _await_end(
        self,
        container: Container,
        job: Job,
        seconds: float,
        on_success: Callable[[], None],
        *,
        unwatched: bool = False,
    ) -> tuple[Ending, State | None]:
        ending, state = await_end(container, seconds, unwatched=unwatched)
        ending = msgspec.structs.replace(ending, stopped=self._stopped.pop(container.id, None))
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
    ) -> Outcome:
        around = self._around
        console = around.layout.console_log(attempt, job.eval)
        make_folder(console.parent)
        # In this order, for what requests raises is an OSError as well.
        with named(console, "write"), contextlib.suppress(DockerException, RequestException):
            container.save_console(console)
        collected = collect(around.layout, attempt)
        found = summarise(around.layout.root / log for log in collected.logs)
        reported = found.final_report is not None
        verdict = judge(msgspec.structs.replace(ending, reported=reported), job.settings)
        warnings = list(collected.warnings)
        if verdict.result is Result.SUCCESS and not reported:
            warnings.append("its log has no final_report")
        return Outcome(
            attempt=attempt,
            job=job,
            result=verdict.result,
            fault=verdict.fault,
            reason=verdict.reason,
            exit_code=ending.exit_code,
            oom_killed=ending.oom_killed,
            started_at=state.started_at if state else None,
            ended_at=(state and state.ended_at) or now(),
            duration=round(duration, 3),
            image=state.image if state else "",
            logs=collected.logs,
            console_log=str(console.relative_to(around.layout.root)) if console.exists() else None,
            final_report=found.final_report,
            samples=found.samples,
            warnings=tuple(warnings),
        )

    def _never_ran(self, job: Job, attempt: str, reason: str) -> Outcome:
        verdict = judge(Ending(lost=reason), job.settings)
        return Outcome(
            attempt=attempt,
            job=job,
            result=verdict.result,
            fault=verdict.fault,
            reason=verdict.reason,
            ended_at=now(),
            image=self._around.images[job.settings.image].id,
        )


def now() -> str:
    """The time, UTC, RFC 3339 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _spent_so_far(container: Container) -> float:
    try:
        return _spent(container.state())
    except (DockerException, RequestException):
        return 0.0


def _spent(state: State | None) -> float:
    """Seconds that a container has run, by the engine's clock."""
    if state is None or state.started_at is None:
        return 0.0
    end = datetime.now(UTC)
    if not state.running and state.ended_at:
        end = datetime.fromisoformat(state.ended_at)
    return max(0.0, (end - datetime.fromisoformat(state.started_at)).total_seconds())


def _require_command(outcome: Outcome, layout: Layout) -> None:
    if outcome.exit_code not in {126, 127} or outcome.console_log is None:
        return
    with (layout.root / outcome.console_log).open("rb") as file:
        if file.read(len(NO_SUCH_COMMAND)) == NO_SUCH_COMMAND:
            raise CannotRun(
                f"image {outcome.job.settings.image} has no command {outcome.job.argv[0]!r} that "
                "can run; choose another --image or --run-command"
            )

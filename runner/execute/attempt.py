import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.execute.absence import Absence
from runner.execute.container import CannotRun, Container, ContainerSpec, State
from runner.execute.engine import Engine, explain
from runner.execute.handed_in import handed_in_to
from runner.execute.left import Running, remove_attempt
from runner.execute.live import Live, LiveContainer
from runner.execute.outcome import never_ran, outcome_of, ran_for
from runner.execute.probe import CANNOT_START, NO_SUCH_COMMAND, lacks_program
from runner.execute.surroundings import Surroundings
from runner.execute.tmp_watch import TmpWatch
from runner.execute.verdict import Ending, judge
from runner.execute.watch import await_end
from runner.job import Job, Outcome, Result
from runner.plan.mask import Mask
from runner.record.collect import private_folder, remove_private


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
    ) -> Iterator[Outcome]:
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
            yield never_ran(job, attempt, explain(error), spec)
            return
        except BaseException:
            remove_private(self._around.layout, attempt)
            raise
        with self._held(container, job, attempt) as live:
            began = time.monotonic()
            if (refused := self._start(container, spec)) is not None:
                yield never_ran(job, attempt, refused, spec)
                return
            on_start(container.id)
            self.live.runs(container.id)
            end = self._await_end(container, live, job, job.settings.timeout, on_success)
            took = time.monotonic() - began
            outcome = self._outcome(
                container, job, attempt, *end, duration=took, handed_in=spec.environment
            )
            self._require_command(outcome, spec)
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
    ) -> Outcome:
        return outcome_of(
            container,
            job,
            attempt,
            ending,
            state,
            duration=duration,
            layout=self._around.layout,
            absence=self._absence,
            handed_in=handed_in,
        )

    def _require_command(self, outcome: Outcome, spec: ContainerSpec) -> None:
        """End the run where its program cannot run; an eval's own words do not suffice."""
        if outcome.exit_code not in CANNOT_START or outcome.console_log is None:
            return
        with (self._around.layout.root / outcome.console_log).open("rb") as file:
            if file.read(len(NO_SUCH_COMMAND)) != NO_SUCH_COMMAND:
                return
        if lacks_program(self._engine.api, spec):
            raise CannotRun(
                f"image {outcome.job.settings.image} has no command {outcome.job.argv[0]!r} that "
                "can run; choose another --image or --run-command"
            )

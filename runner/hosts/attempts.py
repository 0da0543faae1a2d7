import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from runner.data.cache import Data
from runner.data.lock import DataFile, DataLock
from runner.engine.attempt import ContainerAttempts, Made
from runner.engine.container import CannotRun
from runner.engine.ending import Cut, Ending
from runner.engine.engine import Engine, EngineWait, as_environment_fault
from runner.engine.leftovers import Leftover
from runner.engine.live import LiveContainers, follow_samples
from runner.engine.run_facts import RunFacts
from runner.errors import EnvironmentFault, RunnerError
from runner.hosts.link import Poller
from runner.hosts.messages import (
    PIECE,
    CannotStart,
    HasEnded,
    HasSettled,
    HasStarted,
    HasSucceeded,
    LeftFile,
    Message,
    Piece,
    Sampled,
    Say,
    Setup,
    There,
)
from runner.hosts.relay import RelayDoor
from runner.hosts.spool import HOST, Spool, left_in
from runner.model import ContainerSettings, Job, Task
from runner.records.folders import listed

# Seconds for which the engine may be away; then the agent ends, and starts again.
ENGINE_WAIT = 60.0

# Seconds between two words about the samples of an eval.
SAMPLES = 0.5

# The limits of an attempt whose own are not known any more.
_UNKNOWN = ContainerSettings(
    image="", memory=0, cpus=None, pids_limit=0, gpus=None, timeout=1e9, network="none"
)


class _Attempt:
    """An attempt on this host.

    Attributes:
        ended: how it did; None while it runs.
        settled: set once nobody needs it.
        cut: why it is to end, and by which signal; None if nobody wants that.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.container = ""
        self.ended: HasEnded | None = None
        self.settled = threading.Event()
        self.cut: tuple[Cut, str] | None = None


class HostAttempts:
    """The attempts on this host, each with a thread; all else is done by the poller's thread.

    Args:
        spool: where they leave what they leave.
        say: tells the runner, if there is one.
        broken: is told of an error after which another agent may do better.
    """

    def __init__(
        self,
        spool: Spool,
        poller: Poller,
        door: RelayDoor,
        *,
        say: Callable[[Message], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self.engine = Engine()
        self._spool = spool
        self._poller = poller
        self._door = door
        self._say = say
        self._broken = broken
        self._attempts: dict[str, _Attempt] = {}
        self._live = LiveContainers(self.engine)
        self._samples = False
        # What continues attempts before a runner has said anything.
        bare = RunFacts(
            layout=spool.layout,
            run="",
            host=HOST,
            gateway=door,
            known_as=spool.known_as,
        )
        self._made_by = self._making(bare)

    @property
    def are_none(self) -> bool:
        """Whether there is no attempt here."""
        return not self._attempts

    @property
    def are_going(self) -> bool:
        """Whether something that is settled is still to be removed."""
        return any(each.settled.is_set() for each in self._attempts.values())

    def there(self) -> tuple[There, ...]:
        """All attempts that are not settled."""
        return tuple(
            There(
                attempt=name,
                job=each.job,
                container=each.container,
                ended=each.ended is not None,
            )
            for name, each in self._attempts.items()
            if not each.settled.is_set()
        )

    def tell_ended(self) -> None:
        """Tell how those that have ended did."""
        for each in self._attempts.values():
            if each.ended is not None and not each.settled.is_set():
                self._say(each.ended)

    def take_over(self) -> None:
        """Continue what an agent that was killed, or the host's end, has left."""
        left = self._left()
        self._spool.tidy({one.attempt for one in left})
        for one in left:
            job = self._spool.job(one.attempt)
            if job is None:
                job = Job(command=one.command, argv=one.command, settings=_UNKNOWN)
            self._attempts[one.attempt] = _Attempt(job)
            self._run(
                Task(job=job, attempt=one.attempt, container=one.container, created=one.created)
            )

    def set_up(self, setup: Setup) -> None:
        """Make attempts of this run from now on."""
        try:
            if setup.shared_network:
                self.engine.make_eval_network()
            facts = _facts(setup, self._spool, self.engine, self._door)
        except RunnerError as error:
            self._say(CannotStart(attempt="", what=error.what, cure=error.cure))
            return
        self._made_by = self._making(facts)
        self._samples = setup.samples

    def start(self, attempt: str, job: Job) -> None:
        """Make an attempt, unless it is known."""
        if attempt in self._attempts:
            return  # the runner could not know
        self._attempts[attempt] = _Attempt(job)
        self._run(Task(job=job, attempt=attempt))

    def end(self, attempt: str, cut: Cut, signal: str) -> None:
        """Signal the container of an attempt to end, now or when it runs."""
        known = self._attempts.get(attempt)
        if known is None or known.ended is not None:
            return
        known.cut = cut, signal
        if known.container:
            self._live.end(known.container, cut, signal)

    def settle(self, attempt: str) -> None:
        """Remove an attempt that nobody needs; one that runs is ended first."""
        known = self._attempts.get(attempt)
        if known is None:
            self._say(HasSettled(attempt=attempt))
            return
        known.settled.set()
        if known.ended is None:
            self.end(attempt, Cut(why="nobody needs it any more"), "SIGKILL")

    def send_piece(self, attempt: str, name: str, offset: int) -> None:
        """Send a piece of a file of an attempt that has ended."""
        known = self._attempts.get(attempt)
        if known is None or known.ended is None:
            return
        data = b""
        with suppress(OSError, ValueError):
            data = _read(self._path(attempt, known.job, name), offset)
        self._say(Piece(attempt=attempt, name=name, offset=offset, data=data))

    def _path(self, attempt: str, job: Job, name: str) -> Path:
        layout = self._spool.layout
        if not name:
            return layout.console_log(attempt, job.eval)
        return layout.private(attempt) / "evallogs" / name

    def _making(self, facts: RunFacts) -> ContainerAttempts:
        wait = EngineWait(
            self.engine,
            limit=ENGINE_WAIT,
            tell=lambda text: self._poller.call(partial(self._say, Say(text=text))),
        )
        made_by = ContainerAttempts(self.engine, facts, wait)
        made_by.live = self._live  # which ends those of earlier runs as well
        return made_by

    def _run(self, task: Task) -> None:
        threading.Thread(target=self._make, args=(task, self._made_by), daemon=True).start()

    def _make(self, task: Task, made_by: ContainerAttempts) -> None:
        """Bring an attempt to its end, and keep that until it is settled."""
        known = self._attempts[task.attempt]

        def started(container: str) -> None:
            self._poller.call(lambda: self._has_started(task.attempt, known, container))

        def succeeded() -> None:
            self._poller.call(partial(self._say, HasSucceeded(attempt=task.attempt)))

        try:
            if not task.container:
                self._spool.keep(task.attempt, task.job)
            with made_by.made(task, on_start=started, on_success=succeeded) as made:
                ended = _has_ended(task, made, self._spool)
                self._poller.call(lambda: self._has_ended(known, ended))
                known.settled.wait()
        except CannotRun as error:
            message = CannotStart(attempt=task.attempt, what=error.what, cure=error.cure)
            self._poller.call(partial(self._say, message))
        except RunnerError as error:
            if self._may_have_container(task.attempt):
                self._poller.call(partial(self._broken, error))
                return
            # Such as a disk without room for its folder; the runner pauses before it tries again.
            never = _never_ran(task.attempt, task.job, error)
            self._poller.call(lambda: self._has_ended(known, never))
            known.settled.wait()
        except BaseException as error:  # noqa: BLE001 - whatever it is, another agent may do better
            self._poller.call(partial(self._broken, error))
            return
        self._spool.forget(
            task.attempt, self._spool.layout.console_log(task.attempt, task.job.eval)
        )
        self._poller.call(lambda: self._forget(task.attempt))

    def _may_have_container(self, attempt: str) -> bool:
        """Whether an attempt has a container, or the engine does not say."""
        try:
            return any(one.attempt == attempt for one in self._left())
        except EnvironmentFault:
            return True

    def _left(self) -> list[Leftover]:
        with as_environment_fault():
            return left_in(self.engine, self._spool.layout, self._spool.known_as)

    def _forget(self, attempt: str) -> None:
        self._attempts.pop(attempt, None)
        self._say(HasSettled(attempt=attempt))

    def _has_started(self, attempt: str, known: _Attempt, container: str) -> None:
        known.container = container
        if known.cut is not None:
            self._live.end(container, *known.cut)
        self._say(HasStarted(attempt=attempt, container=container))
        if self._samples:
            self._follow(attempt, container)

    def _follow(self, attempt: str, container: str) -> None:
        told = 0.0

        def tell(samples: int, of: int) -> None:
            nonlocal told
            if samples == of or time.monotonic() - told > SAMPLES:
                told = time.monotonic()
                message = Sampled(attempt=attempt, samples=samples, of=of)
                self._poller.call(partial(self._say, message))

        follow_samples(self.engine, container, tell)

    def _has_ended(self, known: _Attempt, ended: HasEnded) -> None:
        known.ended = ended
        if not known.settled.is_set():
            self._say(ended)


def _facts(setup: Setup, spool: Spool, engine: Engine, door: RelayDoor) -> RunFacts:
    """What the attempts of a run share on this host."""
    data = {
        name: Data(
            lock=DataLock(
                eval=name, key="", sha256="", files=tuple(DataFile(path=it) for it in each.paths)
            ),
            content=Path(each.content),
        )
        for name, each in setup.data.items()
    }
    return RunFacts(
        layout=spool.layout,
        run=setup.run,
        host=HOST,
        images=setup.images,
        added={(name, file): image for name, file, image in setup.added},
        python_paths=setup.python_paths,
        registries={Path(folder): place for folder, place in setup.registries},
        classes=None if setup.classes is None else Path(setup.classes),
        environment=setup.environment,
        user=setup.user,
        cpus=engine.info().cpus,
        gateway=door if setup.gateway else None,
        data=data,
        known_as=spool.known_as,
        hide=None if setup.hide is None else Path(setup.hide),
        code=setup.code,
    )


def _has_ended(task: Task, made: Made, spool: Spool) -> HasEnded:
    """An attempt that has ended, with what it left."""
    files: list[LeftFile] = []
    warnings: list[str] = []
    console = spool.layout.console_log(task.attempt, task.job.eval)
    if console.exists():
        files.append(LeftFile(name="", size=console.stat().st_size))
    if not made.ending.unkillable:
        found, warnings = listed(spool.layout.private(task.attempt))
        files += (LeftFile(name=name, size=size) for name, size in found)
    return HasEnded(
        attempt=task.attempt,
        job=task.job,
        made=made,
        files=tuple(files),
        warnings=tuple(warnings),
    )


def _never_ran(attempt: str, job: Job, error: RunnerError) -> HasEnded:
    """The end of an attempt for which there was no container."""
    return HasEnded(attempt=attempt, job=job, made=Made(ending=Ending(lost=str(error))), files=())


def _read(path: Path, offset: int) -> bytes:
    """A piece of a plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.pread(descriptor, PIECE, offset)
    finally:
        os.close(descriptor)

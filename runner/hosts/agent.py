import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from runner.data.cache import Data
from runner.data.lock import DataFile, DataLock
from runner.engine.attempt import ContainerAttempts, Made
from runner.engine.container import CannotRun, ContainerSpec, remove
from runner.engine.ending import Cut, Ending
from runner.engine.engine import Engine, EngineWait, as_environment_fault
from runner.engine.leftovers import find_leftovers
from runner.engine.live import LiveContainers, follow_samples
from runner.engine.run_facts import RunFacts
from runner.errors import RunnerError
from runner.gateway.messages import listen
from runner.hosts.door import RelayDoor
from runner.hosts.link import READ, Link, Poller
from runner.hosts.messages import (
    PIECE,
    PROTOCOL,
    CannotStart,
    Chunk,
    Credit,
    End,
    Gone,
    HasEnded,
    HasSettled,
    HasStarted,
    Hello,
    Inventory,
    LeftFile,
    Message,
    Piece,
    Read,
    Refused,
    Room,
    Running,
    Sampled,
    Say,
    Settle,
    Setup,
    Start,
    Waited,
)
from runner.hosts.spool import Spool
from runner.model import ContainerSettings, Job, Task
from runner.records.folders import listed

SOCKET = "agent.sock"

# The host of labels: an agent finds its containers by its spool.
HOST = "agent"

# Seconds between two words to the runner, and after which a runner that says nothing has gone.
BEAT = 3.0
SILENCE = 60.0

# Seconds without a runner and without attempts after which an agent ends for good.
PATIENCE = 24 * 3600.0

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


class Agent:
    """Makes attempts on this host's engine for a runner, and keeps their ends until it has them.

    Args:
        spool: where it keeps them.
        container: name of the agent's own container; empty for one that ends with its link.
    """

    def __init__(self, spool: Spool, container: str) -> None:
        self._spool = spool
        self._container = container
        self._poller = Poller()
        self._door = RelayDoor(spool.gateway, self._poller)
        self._engine = Engine()
        self._attempts: dict[str, _Attempt] = {}
        self._live = LiveContainers(self._engine)
        self._made_by = self._bare()
        self._link: Link | None = None
        self._epoch = spool.epoch
        self._needed = time.monotonic()
        self._over: int | None = None

    def serve(self, descriptors: tuple[int, int] | None = None) -> int:
        """Serve runners until nobody needs it; return the exit status.

        Args:
            descriptors: of the only link; None to listen on the spool's socket.
        """
        self._adopt()
        if descriptors is not None:
            self._accept(*descriptors)
        else:
            listener = listen(self._spool.socket, SOCKET)
            listener.listen(16)
            self._poller.watch(listener.fileno(), READ, lambda _: self._take_in(listener))
        due = time.monotonic()
        while self._over is None:
            self._poller.step(max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                self._beat()
                due = time.monotonic() + BEAT
        if self._link is not None:
            self._link.close()
        return self._over

    # Links.

    def _take_in(self, listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            descriptor = connection.detach()
            self._accept(descriptor, descriptor)

    def _accept(self, source: int, target: int) -> None:
        """Take a new link; it becomes the link with its `Hello`."""
        link: Link

        def take(message: Message) -> None:
            if link is self._link:
                self._react(message)
            elif isinstance(message, Hello):
                self._greet(link, message)

        link = Link(self._poller, source, target, take=take, lost=lambda _: self._lost(link))

    def _greet(self, link: Link, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            link.send(Refused(why=f"the agent there speaks version {PROTOCOL} of the protocol"))
            return
        if hello.epoch < self._epoch:
            link.send(Refused(why="a newer run has taken this host over", epoch=self._epoch))
            return
        if self._link is not None and self._link is not link:
            self._link.send(Refused(why="a newer run has taken this host over", epoch=hello.epoch))
            self._link.close()
            self._door.disconnect()
        if hello.epoch > self._epoch:
            self._epoch = hello.epoch
            self._spool.keep_epoch(hello.epoch)
        self._link = link
        info = self._engine.info()
        link.send(
            Inventory(
                cpus=info.cpus,
                rootless=info.rootless,
                running=tuple(
                    Running(attempt=name, job=each.job, container=each.container)
                    for name, each in self._attempts.items()
                    if each.ended is None and not each.settled.is_set()
                ),
                ended=tuple(
                    each.ended
                    for each in self._attempts.values()
                    if each.ended is not None and not each.settled.is_set()
                ),
            )
        )
        self._door.connect(self._say)

    def _lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._door.disconnect()
            self._needed = time.monotonic()
        self._end_without_link()

    def _end_without_link(self) -> None:
        """End where there can be no other link, once what is settled has gone."""
        leaving = any(each.settled.is_set() for each in self._attempts.values())
        if self._link is None and not self._container and not leaving:
            self._over = 0

    def _say(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message)

    def _beat(self) -> None:
        now = time.monotonic()
        if self._link is not None:
            if now - self._link.heard > SILENCE and self._container:
                self._link.close()
                self._lost(self._link)
            else:
                with suppress(OSError):
                    self._say(Room(free=self._spool.free()))
        elif not self._attempts and now - self._needed > PATIENCE:
            self._leave()

    def _leave(self) -> None:
        """End for good, and let the engine remove this container."""
        self._over = 0
        if self._container:
            remove(self._engine.api, self._container)

    # What a runner says.

    def _react(self, message: Message) -> None:
        match message:
            case Hello() if self._link is not None:
                self._greet(self._link, message)
            case Setup():
                self._set_up(message)
            case Start(attempt=attempt, job=job):
                self._start(attempt, job)
            case End(attempt=attempt, why=why, signal=signal):
                self._end(attempt, Cut(why=why), signal)
            case Read(attempt=attempt, name=name, offset=offset):
                self._send_piece(attempt, name, offset)
            case Settle(attempt=attempt):
                self._settle(attempt)
            case Chunk() | Credit() | Gone() | Waited():
                self._door.take(message)
            case _:
                pass  # a Ping

    def _set_up(self, setup: Setup) -> None:
        try:
            if setup.shared_network:
                self._engine.make_eval_network()
            facts = _facts(setup, self._spool, self._engine, self._door)
        except RunnerError as error:
            self._say(CannotStart(attempt="", what=error.what, cure=error.cure))
            return
        self._made_by = self._making(facts, setup.code)

    def _start(self, attempt: str, job: Job) -> None:
        known = self._attempts.get(attempt)
        if known is not None:
            return  # the runner could not know
        self._spool.keep(attempt, job)
        self._attempts[attempt] = _Attempt(job)
        self._run(Task(job=job, attempt=attempt))

    def _end(self, attempt: str, cut: Cut, signal: str) -> None:
        known = self._attempts.get(attempt)
        if known is None or known.ended is not None:
            return
        known.cut = cut, signal
        if known.container:
            self._live.end(known.container, cut, signal)

    def _settle(self, attempt: str) -> None:
        known = self._attempts.get(attempt)
        if known is None:
            self._say(HasSettled(attempt=attempt))
            return
        known.settled.set()
        if known.ended is None:
            self._end(attempt, Cut(why="nobody needs it any more"), "SIGKILL")

    def _send_piece(self, attempt: str, name: str, offset: int) -> None:
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

    # Attempts.

    def _bare(self) -> ContainerAttempts:
        """What continues attempts before a runner has said anything."""
        layout = self._spool.layout
        facts = RunFacts(
            layout=layout,
            run="",
            host=HOST,
            images={},
            registries={},
            environment={},
            user="",
            cpus=1,
            gateway=self._door,
        )
        return self._making(facts, {})

    def _making(self, facts: RunFacts, code: Mapping[str, str]) -> ContainerAttempts:
        wait = EngineWait(
            self._engine,
            limit=ENGINE_WAIT,
            tell=lambda text: self._poller.call(partial(self._say, Say(text=text))),
        )
        made_by = _Attempts(self._engine, facts, wait, code)
        made_by.live = self._live  # which ends those of earlier runs as well
        return made_by

    def _adopt(self) -> None:
        """Continue what an agent that was killed, or the host's end, has left."""
        with as_environment_fault():
            left = find_leftovers(self._engine.api, self._spool.layout, HOST)
        self._spool.tidy({one.attempt for one in left})
        for one in left:
            job = self._spool.job(one.attempt)
            if job is None:
                job = Job(command=one.command, argv=one.command, settings=_UNKNOWN)
            self._attempts[one.attempt] = _Attempt(job)
            self._run(
                Task(job=job, attempt=one.attempt, container=one.container, created=one.created)
            )

    def _run(self, task: Task) -> None:
        threading.Thread(target=self._make, args=(task, self._made_by), daemon=True).start()

    def _make(self, task: Task, made_by: ContainerAttempts) -> None:
        """Bring an attempt to its end, and keep that until it is settled."""
        known = self._attempts[task.attempt]

        def started(container: str) -> None:
            self._poller.call(lambda: self._has_started(task.attempt, known, container))

        try:
            with made_by.made(task, on_start=started, on_success=lambda: None) as made:
                ended = _has_ended(task, made, self._spool)
                self._poller.call(lambda: self._has_ended(known, ended))
                known.settled.wait()
        except CannotRun as error:
            message = CannotStart(attempt=task.attempt, what=error.what, cure=error.cure)
            self._poller.call(partial(self._say, message))
        except RunnerError as error:
            if known.container or not self._engine.answers():
                self._poller.call(partial(self._break_off, error))
                return
            # Such as a disk without room for its folder; the runner pauses before it tries again.
            made = Made(ending=Ending(lost=str(error)))
            ended = HasEnded(attempt=task.attempt, job=task.job, made=made, files=())
            self._poller.call(lambda: self._has_ended(known, ended))
            known.settled.wait()
        except BaseException as error:  # noqa: BLE001 - whatever it is, another agent may do better
            self._poller.call(partial(self._break_off, error))
            return
        self._spool.forget(
            task.attempt, self._spool.layout.console_log(task.attempt, task.job.eval)
        )
        self._poller.call(lambda: self._forget(task.attempt))

    def _forget(self, attempt: str) -> None:
        del self._attempts[attempt]
        self._say(HasSettled(attempt=attempt))
        self._end_without_link()

    def _has_started(self, attempt: str, known: _Attempt, container: str) -> None:
        known.container = container
        if known.cut is not None:
            self._live.end(container, *known.cut)
        self._say(HasStarted(attempt=attempt, container=container))
        told = 0.0

        def tell(samples: int, of: int) -> None:
            nonlocal told
            if samples == of or time.monotonic() - told > SAMPLES:
                told = time.monotonic()
                message = Sampled(attempt=attempt, samples=samples, of=of)
                self._poller.call(partial(self._say, message))

        follow_samples(self._engine, container, tell)

    def _has_ended(self, known: _Attempt, ended: HasEnded) -> None:
        known.ended = ended
        if not known.settled.is_set():
            self._say(ended)

    def _break_off(self, error: BaseException) -> None:
        """End with all attempts left as they are: what starts this agent again adopts them."""
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        self._say(Say(text=f"its agent starts again: {error}"))
        self._over = 1


class _Attempts(ContainerAttempts):
    """Attempts whose jobs name folders of code as the runner's host has them."""

    def __init__(
        self, engine: Engine, shared: RunFacts, engine_wait: EngineWait, code: Mapping[str, str]
    ) -> None:
        super().__init__(engine, shared, engine_wait)
        self._code = code

    def spec(self, task: Task) -> ContainerSpec:
        """What the container of an attempt is created from."""
        settings = task.job.settings
        code = tuple(self._code.get(folder, folder) for folder in settings.code)
        job = msgspec.structs.replace(
            task.job, settings=msgspec.structs.replace(settings, code=code)
        )
        return self._shared.spec(job, task.attempt)


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
        hide=None if setup.hide is None else Path(setup.hide),
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


def _read(path: Path, offset: int) -> bytes:
    """A piece of a plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.pread(descriptor, PIECE, offset)
    finally:
        os.close(descriptor)

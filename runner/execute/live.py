import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.errors import EnvironmentFault
from runner.execute.engine import Engine
from runner.execute.verdict import Cut


class LiveContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container whose attempt is going on.

    Attributes:
        id: the engine's id of it.
        attempt: id of the attempt.
        eval: resolved key of the eval.
        tmp_limit: bytes that it may have in its `/tmp`.
        absences: of the engine, that were noticed up to the start of the attempt.
    """

    id: str
    attempt: str
    eval: str
    tmp_limit: int
    absences: int


class Live:
    """The containers of a run whose attempts are going on, and who of them is ended early, and why.

    All threads may use it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._containers: dict[str, LiveContainer] = {}
        self._cuts: dict[str, Cut] = {}
        # Set once all are to end: also for one that comes to run only now.
        self._all: tuple[Cut, str] | None = None

    def __iter__(self) -> Iterator[LiveContainer]:
        with self._lock:
            return iter(list(self._containers.values()))

    @contextmanager
    def holding(self, container: LiveContainer) -> Iterator[None]:
        """Count a container in for as long as the `with` block lasts."""
        with self._lock:
            self._containers[container.id] = container
        try:
            yield
        finally:
            with self._lock:
                del self._containers[container.id]

    def runs(self, container: str) -> None:
        """A container was started; it is ended at once if that was asked of all."""
        if self._all is not None:
            self.end(container, *self._all)

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """Signal every running container to end, or kill it; their attempts count as lost."""
        self._all = (Cut(why=why), "SIGKILL" if kill else "SIGTERM")
        for container in self:
            self.end(container.id, *self._all)

    def end(self, container: str, cut: Cut, signal: str) -> None:
        """Signal a container, without waiting for the engine, which may take its time."""
        # Before the signal, for whoever waits for the container may be faster than its answer.
        with self._lock:
            before = self._cuts.get(container)
            self._cuts[container] = cut

        def send() -> None:
            try:
                with closing(self._engine.api) as api:
                    api.kill(container, signal)
            except (EnvironmentFault, DockerException, RequestException):
                self._take_back(container, cut, before)

        threading.Thread(target=send, name="end", daemon=True).start()

    def cut(self, container: str) -> Cut | None:
        """Why a container was still running when it was ended by the runner."""
        with self._lock:
            return self._cuts.pop(container, None)

    def _take_back(self, container: str, cut: Cut, before: Cut | None) -> None:
        """It has ended by itself, or the engine is away."""
        with self._lock:
            if self._cuts.get(container) is not cut:
                return  # another reason has come meanwhile, or it was asked for
            if before is not None:
                self._cuts[container] = before
            else:
                del self._cuts[container]

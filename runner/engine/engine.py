import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from runner.engine import docker_py
from runner.errors import EnvironmentFault
from runner.options import EVAL_NETWORK

# An engine that is well answers a ping within this many seconds.
PING_TIME = 5


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of itself.

    Attributes:
        version: of the engine.
        cpus: that it can use.
        memory: in bytes.
        rootless: whether root in a container is the engine's own user outside.
        root: the engine's data folder.
    """

    version: str
    cpus: int
    memory: int
    rootless: bool
    root: str


class Engine:
    """The Docker engine of DOCKER_HOST, of the current Docker context, or of the default socket.

    Each thread gets its own client.

    Args:
        socket: path of another engine's socket, as where one is borrowed from another host.
        lender: that host.

    Attributes:
        borrowed: whether it is that of another host, which does not see this one's files.
    """

    def __init__(self, socket: str | None = None, lender: str = "") -> None:
        self._clients = threading.local()
        self.borrowed = socket is not None
        self.lender = lender
        with as_environment_fault():
            self._socket = socket or docker_py.plain_socket()
            self._version = docker_py.api_version(self._socket)
        self._info: EngineInfo | None = None
        self._asking: threading.Thread | None = None

    @property
    def api(self) -> "docker_py.Api":
        """This thread's client."""
        api: docker_py.Api | None = getattr(self._clients, "api", None)
        if api is None:
            with as_environment_fault():
                own = f"unix://{self._socket}" if self.borrowed else None
                api = docker_py.connect(self._socket, self._version, base=own)
                self._clients.api = api
        return api

    def ask_ahead(self) -> None:
        """Start to ask the engine about itself: it takes its time to answer `info`."""

        def ask() -> None:
            with contextlib.suppress(EnvironmentFault):
                self._info = self._ask()

        self._asking = threading.Thread(target=ask, daemon=True)
        self._asking.start()

    def info(self) -> EngineInfo:
        """What the engine says of itself."""
        if self._asking:
            self._asking.join()
        self._info = self._info or self._ask()
        return self._info

    def _ask(self) -> EngineInfo:
        with as_environment_fault():
            said: dict[str, Any] = self.api.info()
        return EngineInfo(
            version=said["ServerVersion"],
            cpus=said["NCPU"],
            memory=said["MemTotal"],
            rootless=any("rootless" in option for option in said.get("SecurityOptions") or ()),
            root=said["DockerRootDir"],
        )

    def answers(self) -> bool:
        """Whether the engine is there now."""
        try:
            api = self.api
            return bool(api.get(f"{api.base_url}/_ping", timeout=PING_TIME).ok)
        except (EnvironmentFault, docker_py.RequestException):
            return False

    def make_eval_network(self) -> None:
        """Create the network that evals share, where it is missing."""
        with as_environment_fault():
            try:
                self.api.inspect_network(EVAL_NETWORK)
            except docker_py.NotFound:
                self._create_eval_network()

    def _create_eval_network(self) -> None:
        try:
            self.api.create_network(
                EVAL_NETWORK,
                driver="bridge",
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={"evalset.network": "shared"},
                check_duplicate=True,
            )
        except docker_py.APIError as error:
            if error.status_code != 409:  # noqa: PLR2004 - HTTP's Conflict: another run was first
                raise


@contextmanager
def as_environment_fault() -> Iterator[None]:
    """Turn what docker-py raises when the engine does not do its part into one clear line."""
    try:
        yield
    except docker_py.ERRORS as error:
        raise as_fault(error) from error


def explain(error: Exception) -> str:
    """One line on what the engine refused, and what to do."""
    return str(as_fault(error))


def as_fault(error: Exception) -> EnvironmentFault:
    """What the engine refused, and what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, docker_py.APIError) and error.explanation:
        said = " ".join(str(error.explanation).split())
        return EnvironmentFault(f"the Docker engine refused: {said}")
    if isinstance(error, docker_py.NotFound):
        return EnvironmentFault(
            f"the Docker engine does not know it: {text}", "run the same command again"
        )
    if "Permission denied" in text:
        return EnvironmentFault(
            "no permission to use the Docker engine's socket",
            "add this user to the group `docker` "
            "(sudo usermod -aG docker $USER, then log in again), or point DOCKER_HOST elsewhere",
        )
    if isinstance(error, docker_py.ConnectionError):
        return EnvironmentFault(
            f"no Docker engine answers at {docker_py.address()}",
            "start it (`sudo systemctl start docker`, or "
            "`scripts/engine` in a checkout), or point DOCKER_HOST at one",
        )
    return EnvironmentFault(
        f"the Docker engine did not answer as expected: {text}", "look at its own log"
    )


# Seconds between two looks whether the engine is back.
PAUSE = 1

# How often the same is asked of an engine that answers, but not that.
TRIES = 4

T = TypeVar("T")


class EngineWait:
    """Waits for an engine that went away while evals run; one worker asks, the others wait.

    Args:
        engine: that may go away.
        limit: seconds in which it has to come back.
        tell: told in a line when it goes and when it comes back.

    Attributes:
        absences: how often anybody found it away; what ran meanwhile may have been ended by it.
    """

    def __init__(self, engine: Engine, *, limit: float, tell: Callable[[str], None]) -> None:
        self._engine = engine
        self._limit = limit
        self._tell = tell
        self._one = threading.Lock()
        self._given_up = False
        self.absences = 0

    def retry(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; where the engine goes away meanwhile, asked again when it is back.

        Raises:
            EnvironmentFault: it did not come back.
            RequestException: it answers others, but not this.
        """
        for _ in range(TRIES - 1):
            try:
                return ask()
            except docker_py.RequestException as error:
                self.wait(error)
        return ask()

    def wait(self, error: "docker_py.RequestException") -> bool:
        """Wait until the engine answers; `error` made somebody doubt it.

        Returns:
            Whether it was away.

        Raises:
            EnvironmentFault: it has not answered within the limit.
            APIError: `error` itself, where it is an answer.
        """
        if isinstance(error, docker_py.APIError):
            if not error.is_server_error():
                raise error
            # One that is being shut down says so to whoever still asks.
            time.sleep(PAUSE)
        else:
            self.absences += 1
        with self._one:
            if self._given_up:
                raise self._gone(error) from error
            if self._engine.answers():
                # Others may have waited for it before, or it was very quick.
                return not isinstance(error, docker_py.APIError)
            self._tell(f"the Docker engine went away; waiting up to {self._limit:g} s for it")
            began = time.monotonic()
            while not self._engine.answers():
                if time.monotonic() - began > self._limit:
                    self._given_up = True
                    raise self._gone(error) from error
                time.sleep(PAUSE)
            self._tell(f"the Docker engine is back after {time.monotonic() - began:.0f} s")
            return True

    def _gone(self, error: "docker_py.RequestException") -> EnvironmentFault:
        return EnvironmentFault(
            f"the engine went away for more than {self._limit:g} s (--engine-wait",
            f"{explain(error)}); the next run takes over what ran there",
        )

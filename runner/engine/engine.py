import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import docker
import msgspec
from docker.errors import APIError, DockerException, NotFound
from docker.transport.unixconn import (
    UnixHTTPAdapter,
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException

from runner.errors import EnvironmentFault
from runner.options import EVAL_NETWORK


class _Connection(UnixHTTPConnection):
    """Closes a socket that finds nobody; docker-py leaves it to the interpreter."""

    def connect(self) -> None:
        """Connect to the engine's socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.unix_socket)
        except OSError:
            self.sock.close()
            raise


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> _Connection:  # type: ignore[override] # as docker-py's own does
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type] # its stubs are wrong


class OneConnection(UnixHTTPAdapter):
    """Uses one connection for all requests of a client.

    docker-py's own opens one for each address, which has a container's id in it, and keeps the last
    25 of them open: many workers would use up the files that a process may have open.
    """

    def __init__(self, like: UnixHTTPAdapter) -> None:
        super().__init__(like.socket_path, like.timeout)
        self._pool = _Pool("http://localhost", like.socket_path, like.timeout, maxsize=1)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:  # noqa: ANN401, ARG002 - docker-py's
        """Where connections come from, whatever is asked for."""
        return self._pool

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        super().close()


# The engine answers within this many seconds or is taken for dead; waits have limits of their own.
ANSWER_TIME = 120

# One that is well answers a ping within this many.
PING_TIME = 5

# Docker 20.10's; no older engine is tried.
OLDEST_API = "1.41"


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of itself.

    Attributes:
        version: of the engine.
        cpus: that it can use.
        memory: in bytes.
        architecture: such as `x86_64`.
        rootless: whether root in a container is the engine's own user outside.
        root: the engine's data folder.
    """

    version: str
    cpus: int
    memory: int
    architecture: str
    rootless: bool
    root: str


class Engine:
    """The Docker engine of DOCKER_HOST, of the current Docker context, or of the default socket.

    Each thread gets its own client, for docker-py's are not made to be shared.
    """

    def __init__(self) -> None:
        self._clients = threading.local()
        with answering():
            self._version = _api_version()
        self._info: EngineInfo | None = None
        self._asking: threading.Thread | None = None

    @property
    def api(self) -> docker.APIClient:
        """This thread's client."""
        api: docker.APIClient | None = getattr(self._clients, "api", None)
        if api is None:
            with answering():
                client = docker.from_env(version=self._version, timeout=ANSWER_TIME)
                api = self._clients.api = _with_one_connection(client.api)
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
        with answering():
            said: dict[str, Any] = self.api.info()
        return EngineInfo(
            version=said["ServerVersion"],
            cpus=said["NCPU"],
            memory=said["MemTotal"],
            architecture=said["Architecture"],
            rootless=any("rootless" in option for option in said.get("SecurityOptions") or ()),
            root=said["DockerRootDir"],
        )

    def answers(self) -> bool:
        """Whether the engine is there now."""
        try:
            api = self.api
            return bool(api.get(f"{api.base_url}/_ping", timeout=PING_TIME).ok)
        except (EnvironmentFault, RequestException):
            return False

    def make_eval_network(self) -> None:
        """Create the network that evals share, where it is missing."""
        with answering():
            if self.api.networks(names=[f"^{EVAL_NETWORK}$"]):
                return
            try:
                self.api.create_network(
                    EVAL_NETWORK,
                    driver="bridge",
                    options={"com.docker.network.bridge.enable_icc": "false"},
                    labels={"evalset.network": "shared"},
                    check_duplicate=True,
                )
            except APIError as error:
                if error.status_code != 409:  # noqa: PLR2004 - HTTP's Conflict: another run was first
                    raise


def _with_one_connection(api: docker.APIClient) -> docker.APIClient:
    place = "http+docker://"
    adapter = api.adapters.get(place)
    if isinstance(adapter, UnixHTTPAdapter):  # not over TCP or SSH
        api.mount(place, OneConnection(adapter))
    return api


def _api_version() -> str:
    """The newest version of the API that the engine speaks.

    docker-py asks for more than that, for which the engine starts several programs.
    """
    api = docker.from_env(version=OLDEST_API, timeout=ANSWER_TIME).api
    answer = api.get(f"{api.base_url}/_ping", timeout=ANSWER_TIME)
    answer.raise_for_status()
    version: str = answer.headers.get("Api-Version", OLDEST_API)
    return version


@contextmanager
def answering() -> Iterator[None]:
    """Turn what docker-py raises when the engine does not do its part into one clear line."""
    try:
        yield
    except (DockerException, RequestException) as error:
        raise EnvironmentFault(explain(error)) from error


def explain(error: Exception) -> str:
    """One line on what the engine refused, and what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, APIError) and error.explanation:
        return f"the Docker engine refused: {' '.join(str(error.explanation).split())}"
    if isinstance(error, NotFound):
        return f"the Docker engine does not know it: {text}; run the same again"
    if "Permission denied" in text:
        return (
            "no right to the Docker engine's socket; add this user to the group `docker` "
            "(sudo usermod -aG docker $USER, then log in again), or point DOCKER_HOST elsewhere"
        )
    if isinstance(error, RequestsConnectionError) or "Error while fetching server" in text:
        return (
            f"no Docker engine answers at {where()}; start it (`sudo systemctl start docker`, or "
            "`scripts/engine` in a checkout), or point DOCKER_HOST at one"
        )
    return f"the Docker engine did not answer as expected: {text}; look at its own log"


def where() -> str:
    """The engine's address, as the environment and the Docker context give it."""
    import os  # noqa: PLC0415 - only an error message needs these two

    from docker.context import ContextAPI  # noqa: PLC0415 - only when asked for

    host = os.environ.get("DOCKER_HOST")
    if not host:
        host = ContextAPI.kwargs_from_context(environment=os.environ).get("base_url")
    return host or "unix:///var/run/docker.sock"


# Seconds between two looks whether the engine is back.
PAUSE = 1

# How often the same is asked of an engine that answers, but not that.
TRIES = 4

T = TypeVar("T")


class Absence:
    """Waits for an engine that went away while evals run; one worker asks, the others wait.

    Args:
        engine: that may go away.
        limit: seconds in which it has to come back.
        tell: told in a line when it goes and when it comes back.

    Attributes:
        noticed: how often anybody found it away; what ran meanwhile may have been ended by it.
    """

    def __init__(self, engine: Engine, *, limit: float, tell: Callable[[str], None]) -> None:
        self._engine = engine
        self._limit = limit
        self._tell = tell
        self._one = threading.Lock()
        self._given_up = False
        self.noticed = 0

    def through(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; where the engine goes away meanwhile, asked again when it is back.

        Raises:
            EnvironmentFault: it did not come back.
            RequestException: it answers others, but not this.
        """
        for _ in range(TRIES - 1):
            try:
                return ask()
            except RequestException as error:
                self.wait(error)
        return ask()

    def wait(self, error: RequestException) -> bool:
        """Wait until the engine answers; `error` made somebody doubt it.

        Returns:
            Whether it was away.

        Raises:
            EnvironmentFault: it has not answered within the limit.
            APIError: `error` itself, where it is an answer.
        """
        if isinstance(error, APIError):
            if not error.is_server_error():
                raise error
            # One that is being shut down says so to whoever still asks.
            time.sleep(PAUSE)
        else:
            self.noticed += 1
        with self._one:
            if self._given_up:
                raise self._gone(error) from error
            if self._engine.answers():
                # Others may have waited for it before, or it was very quick.
                return not isinstance(error, APIError)
            self._tell(f"the Docker engine went away; waiting up to {self._limit:g} s for it")
            began = time.monotonic()
            while not self._engine.answers():
                if time.monotonic() - began > self._limit:
                    self._given_up = True
                    raise self._gone(error) from error
                time.sleep(PAUSE)
            self._tell(f"the Docker engine is back after {time.monotonic() - began:.0f} s")
            return True

    def _gone(self, error: RequestException) -> EnvironmentFault:
        return EnvironmentFault(
            f"the engine went away for more than {self._limit:g} s (--engine-wait; "
            f"{explain(error)}); what ran there is taken in by the next run"
        )

"""docker-py, and everything that works around it.

Importing it takes 0.1 s, as long as all else until a run's first container is there; four fifths of
that are requests and urllib3. So a name of theirs is imported when it is first used: write
`docker_py.NotFound`, because `from docker_py import NotFound` imports all of it.
"""

import contextlib
import functools
import importlib
import json
import math
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from docker import APIClient as Api
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound
    from requests.exceptions import ConnectionError, RequestException  # noqa: A004 - requests' name

    ERRORS = (DockerException, RequestException)

    __all__ = [
        "APIError",
        "Api",
        "ConnectionError",
        "DockerException",
        "ImageNotFound",
        "NotFound",
        "RequestException",
    ]
else:
    Api = Any

    def __getattr__(name: str) -> Any:
        """Import a name of docker-py or requests (https://peps.python.org/pep-0562/)."""
        from docker import errors
        from requests import exceptions

        if name == "ERRORS":  # all that a request may raise
            return (errors.DockerException, exceptions.RequestException)
        return getattr(errors if hasattr(errors, name) else exceptions, name)


# The engine answers within this many seconds or is taken for dead; waits have limits of their own.
ANSWER_TIME = 120

# Docker 20.10's; no older engine is tried.
OLDEST_API = "1.41"

# The requests that only read, of those that `Client` makes itself, by docker-py's names.
_READS = {
    "info": "/info",
    "inspect_image": "/images/{}/json",
    "history": "/images/{}/history",
    "inspect_network": "/networks/{}",
}


class Client:
    """docker-py's client, which makes a run's requests up to its first container itself.

    These few go straight to the engine's Unix socket, because importing docker-py takes longer than
    all of them. Everything else is docker-py's. So is a request that does not succeed: docker-py
    makes it again, and raises what it always raises.

    The methods and their parameters are docker-py's:
    https://docker-py.readthedocs.io/en/stable/api.html

    Args:
        path: of the socket.
        version: of the engine's API.
        base: the engine's address for docker-py; None for that of the environment.
    """

    def __init__(self, path: str, version: str, base: str | None = None) -> None:
        self._path = path
        self._version = version
        self._docker = functools.cache(partial(_docker_client, version, base))

    def __getattr__(self, name: str) -> Any:
        if name not in _READS:
            return getattr(self._docker(), name)

        def read(*of: str) -> Any:
            path = _READS[name].format(*map(_quoted, of))
            return self._ask("GET", path, lambda api: getattr(api, name)(*of))

        return read

    def containers(self, **given: Any) -> Any:
        """List containers by labels."""
        if given.keys() != {"all", "filters"}:
            return self._docker().containers(**given)
        filters = {
            name: [it] if isinstance(it, str) else it for name, it in given["filters"].items()
        }
        query = urlencode({"all": int(given["all"]), "filters": json.dumps(filters)})
        return self._ask("GET", f"/containers/json?{query}", lambda api: api.containers(**given))

    def create_container_from_config(self, config: Mapping[str, Any], name: str = "") -> Any:
        """Create a container; `config` is as the engine's API has it."""
        path = f"/containers/create{name and '?' + urlencode({'name': name})}"
        made = self._ask(
            "POST",
            path,
            lambda api: api.create_container_from_config(config, name or None),
            json.dumps(config),
        )
        _import_ahead()
        return made

    def start(self, container: str) -> None:
        """Let the program of a container run, given its id or name."""
        path = f"/containers/{_quoted(container)}/start"
        self._ask("POST", path, lambda api: api.start(container))

    def _ask(self, method: str, path: str, otherwise: Callable[[Any], Any], body: str = "") -> Any:
        """What the engine answers; `otherwise` asks docker-py where that is no success."""
        try:
            answer = _exchange(self._path, f"{method} /v{self._version}{path}", body)
            said = json.loads(answer.body) if answer.body else None
        except (OSError, ValueError) as error:
            from requests import exceptions

            if isinstance(error, TimeoutError):
                raise exceptions.Timeout(error) from error
            if method == "POST":  # it may have been done all the same
                raise exceptions.ConnectionError(error) from error
            return otherwise(self._docker())
        return said if answer.status in _SUCCESS else otherwise(self._docker())


_SUCCESS = (200, 201, 204)


def _quoted(name: str) -> str:
    return quote(name, safe="/:")


@functools.cache
def _import_ahead() -> None:
    """Import docker-py while the engine starts the first container."""
    threading.Thread(target=importlib.import_module, args=("docker",), daemon=True).start()


def connect(path: str | None, version: str, *, base: str | None = None) -> Api:
    """A client for one thread: docker-py's are not made to be shared.

    For `path` see below, for `base` see `Client`.
    """
    return _docker_client(version) if path is None else cast("Api", Client(path, version, base))


def plain_socket() -> str | None:
    """Path of the engine's Unix socket; None where only docker-py knows the way to the engine.

    It heeds more variables, and Docker's configuration:
    https://docker-py.readthedocs.io/en/stable/client.html#docker.client.from_env
    """
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    found = re.fullmatch(r"unix://(/[\w./-]+)", host)
    variables = ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
    if not found or any(map(os.environ.get, variables)):
        return None
    usual = Path("~/.docker").expanduser()
    chosen = Path(os.environ.get("DOCKER_CONFIG") or usual)
    for file in (chosen / "config.json", usual / "config.json", usual.with_name(".dockercfg")):
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError:
            return None
        # Not parsed: where such a key means something else, docker-py costs its 0.1 s.
        if any(key in text for key in (b'"currentContext"', b'"HttpHeaders"', b'"proxies"')):
            return None
    return found[1]


def address() -> str:
    """Where the engine is, as the environment and the Docker context say.

    docker-py's client calls each Unix socket `http+docker://localhost`:
    https://github.com/docker/docker-py/blob/7.2.0/docker/api/client.py
    """
    from docker.context import ContextAPI

    host = os.environ.get("DOCKER_HOST")
    if not host:
        host = ContextAPI.kwargs_from_context(environment=os.environ).get("base_url")
    return host or "unix:///var/run/docker.sock"


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def _exchange(path: str, request: str, body: str = "") -> _Answer:
    """Make one request, such as `GET /_ping`, of the engine at a Unix socket.

    In HTTP 1.0, where an answer ends with its connection, so that only its lines are to be parsed
    (https://www.rfc-editor.org/rfc/rfc1945#section-6). Importing `http.client` and what it needs
    would take as long as all of these requests.

    Raises:
        OSError: nobody is there, or it breaks off.
        ValueError: that is no answer.
    """
    content = body.encode()
    head = [
        request.encode() + b" HTTP/1.0",
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(content),
    ]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIME)
        connection.connect(path)
        connection.sendall(b"\r\n".join([*head, b"", content]))
        said = b"".join(iter(partial(connection.recv, 1 << 16), b""))
    if not said:
        raise ConnectionResetError("the engine closed the connection without an answer")
    top, _, rest = said.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (it.partition(":") for it in lines)
    }
    return _Answer(int(first.split()[1]), headers, rest)


def api_version(path: str | None) -> str:
    """The newest version of the API that the engine speaks. For `path`, see `plain_socket`.

    docker-py's own way asks for more than that, for which the engine starts several programs.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        if path and (version := _exchange(path, "GET /_ping").headers.get("api-version")):
            return version
    api = _docker_client(OLDEST_API)
    answer = api.get(f"{api.base_url}/_ping", timeout=ANSWER_TIME)
    answer.raise_for_status()
    return str(answer.headers.get("Api-Version", OLDEST_API))


def _docker_client(version: str, base: str | None = None) -> Api:
    """docker-py's own client, with one connection for all of its requests.

    On a Unix socket, docker-py opens a connection for each address, which has a container's id in
    it, and keeps the last 25 open: many workers would use up the files that a process may open.
    https://github.com/docker/docker-py/blob/7.2.0/docker/transport/unixconn.py
    """
    import docker
    from docker.transport import unixconn

    class Connection(unixconn.UnixHTTPConnection):
        """Closes a socket that finds nobody: https://github.com/docker/docker-py/pull/3356."""

        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            try:
                self.sock.connect(self.unix_socket)
            except OSError:
                self.sock.close()
                raise

    class Pool(unixconn.UnixHTTPConnectionPool):
        def _new_conn(self) -> Connection:  # type: ignore[override] # as docker-py's own does
            return Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type] # its stubs are wrong

    if base is None:
        api = docker.from_env(version=version, timeout=ANSWER_TIME).api
    else:
        api = docker.APIClient(base_url=base, version=version, timeout=ANSWER_TIME)
    adapter = api.adapters.get("http+docker://")
    if isinstance(adapter, unixconn.UnixHTTPAdapter):  # not over TCP or SSH
        pool = Pool("http://localhost", adapter.socket_path, adapter.timeout, maxsize=1)
        adapter.pools[""] = pool  # closed with the client
        adapter.get_connection = lambda *_: pool  # type: ignore[method-assign] # whatever is asked for
    return api


def create(api: Api, config: Mapping[str, Any], name: str = "") -> str:
    """Create a container from what the engine's API has for it, and tell its id."""
    made = api.create_container_from_config(config, name)  # type: ignore[no-untyped-call] # its stubs lack it
    return str(made["Id"])


def wait(api: Api, container: str, seconds: float) -> int | None:
    """Wait until a container has ended, and tell its status; None where it has not ended in time.

    The engine sends the head of its answer first, so that a limit reached later is no `Timeout`:
    https://github.com/docker/docker-py/issues/1966
    """
    from requests import exceptions

    try:
        ended = api.wait(container, timeout=math.ceil(seconds))
    except exceptions.Timeout:
        return None
    except exceptions.ConnectionError as error:
        if "Read timed out" in str(error):
            return None
        raise
    return int(ended["StatusCode"])


def kill(api: Api, container: str, signal: str, seconds: float) -> bool:
    """Signal a container, and wait `seconds` at most for the engine, which may never answer.

    Returns:
        False where the engine refused, as it does where the container has ended.

    docker-py's own has no such limit:
    https://github.com/docker/docker-py/blob/7.2.0/docker/api/container.py
    """
    from requests import exceptions

    with contextlib.suppress(exceptions.Timeout):
        to = _address(api, container, "kill")
        return api.post(to, params={"signal": signal}, timeout=seconds).ok
    return True


def printed(api: Api, container: str) -> Iterator[bytes]:
    """What a container printed, standard output and error as they came, in pieces.

    docker-py's own leaves the connection open (https://github.com/docker/docker-py/pull/3412).
    """
    from requests import exceptions
    from urllib3.exceptions import HTTPError

    try:
        yield from _frames(api, container)
    except HTTPError as error:  # what requests lets through where the answer breaks off
        raise exceptions.ConnectionError(error) from error


class Streams(NamedTuple):
    """What a container printed, as far as its log has it."""

    stdout: bytes
    stderr: bytes


def streams(api: Api, container: str) -> Streams:
    """What a container that has ended printed, each stream by itself.

    From its log, because attaching leaves sockets open: https://github.com/docker/docker-py/pull/3412.
    """
    return Streams(
        stdout=api.logs(container, stdout=True, stderr=False),
        stderr=api.logs(container, stdout=False, stderr=True),
    )


# Bytes before each piece of what a container printed, and of that read at once.
_HEADER = 8
_PIECE = 1 << 16


def _frames(api: Api, container: str) -> Iterator[bytes]:
    """The content of frames: eight bytes, of which the last four are the length of what follows."""
    place = _address(api, container, "logs")
    both = {"stdout": "1", "stderr": "1"}
    with api.get(place, params=both, stream=True, timeout=ANSWER_TIME) as answer:
        answer.raise_for_status()
        while len(header := answer.raw.read(_HEADER)) == _HEADER:
            left = int.from_bytes(header[4:])
            while left and (part := answer.raw.read(min(left, _PIECE))):
                left -= len(part)
                yield part


@contextlib.contextmanager
def attached(api: Api, container: str) -> Iterator[Iterator[bytes]]:
    """What a container prints from now on, as it comes."""
    parts: Any = api.attach(container, stream=True)
    try:
        yield parts
    finally:
        # Its own `close` frees half of it: https://github.com/docker/docker-py/issues/3282
        parts._response.close()  # noqa: SLF001 - its own `close` frees half of it


def _address(api: Api, container: str, what: str) -> str:
    return f"{api.base_url}/v{api.api_version}/containers/{container}/{what}"

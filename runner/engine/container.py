import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
import msgspec
from docker.errors import APIError, DockerException, NotFound
from docker.types import DeviceRequest, LogConfig, Mount, Ulimit
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException, Timeout
from urllib3.exceptions import HTTPError

from runner.errors import EnvironmentFault
from runner.files import PASSING, appearing_whole
from runner.model import ContainerSettings

# What a container may print before the engine drops the oldest part: two files of this size.
CONSOLE_FILE_SIZE = "10m"

# Seconds between the polite signal and the one that cannot be ignored.
STOP_TIME = 10

# Seconds that the kernel gets to end a killed container; then it is taken for one that cannot be
# killed, as where a process hangs in a driver or a network file system.
KILL_TIME = 10

# Bytes before each piece of what a container printed, and of that read at once.
_HEADER = 8

_PIECE = 1 << 16


class CannotRun(EnvironmentFault):
    """No container can do what the run asks for; none has done anything."""


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a container is created from.

    Attributes:
        name: for people who look at `docker ps`; we find it by its labels.
        image: the image's id.
        argv: program and arguments.
        private: host folder that becomes the container's `/tmp`, its only writable place.
        mounts: container path by host folder, all read-only.
        environment: variables and their values.
        labels: by which it is found again.
        user: `uid:gid`.
        settings: limits and network.
    """

    name: str
    image: str
    argv: tuple[str, ...]
    private: Path
    mounts: Mapping[Path, str]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    settings: ContainerSettings


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of a container.

    Attributes:
        image: the image's id.
        running: whether it runs now.
        exit_code: of its main process, once that ended.
        oom_killed: whether the kernel killed a process of it for the memory limit.
        started_at: UTC, RFC 3339; None when it never started.
        ended_at: likewise.
    """

    image: str
    running: bool
    exit_code: int
    oom_killed: bool
    started_at: str | None
    ended_at: str | None


class Container:
    """A container that is removed, with its volumes, on any way out of the `with` block.

    Attributes:
        id: the engine's id of it.
        keep: set to leave it where it is, for a later run to find.
    """

    def __init__(self, api: docker.APIClient, container_id: str) -> None:
        self._api = api
        self.id = container_id
        self.keep = False

    @classmethod
    def create(cls, api: docker.APIClient, spec: ContainerSpec) -> Self:
        """Create a container that can do nothing but compute, use its network and its `/tmp`."""
        settings = spec.settings
        host_config = api.create_host_config(
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            mounts=[
                Mount("/tmp", str(spec.private), type="bind"),  # noqa: S108 - inside the container
                *(
                    Mount(place, str(folder), type="bind", read_only=True)
                    for folder, place in spec.mounts.items()
                ),
            ],
            mem_limit=settings.memory,
            memswap_limit=settings.memory,
            nano_cpus=int(settings.cpus * 1e9) if settings.cpus else None,
            pids_limit=settings.pids_limit,
            # No single file can be larger than all of `/tmp` may be; a sparse one neither.
            ulimits=[Ulimit(name="fsize", soft=settings.tmp_limit, hard=settings.tmp_limit)],
            network_mode=settings.network,
            extra_hosts=_extra_hosts(settings.network),
            device_requests=_device_requests(settings.gpus),
            log_config=LogConfig(
                type="json-file", config={"max-size": CONSOLE_FILE_SIZE, "max-file": "2"}
            ),
        )
        with _refusals(spec):
            made = api.create_container(
                spec.image,
                name=spec.name,
                entrypoint=[spec.argv[0]],
                command=list(spec.argv[1:]),
                environment=dict(spec.environment),
                working_dir="/tmp",  # noqa: S108 - inside the container
                user=spec.user,
                labels=dict(spec.labels),
                host_config=host_config,
            )
        return cls(api, made["Id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.keep:
            remove(self._api, self.id)

    def start(self, spec: ContainerSpec) -> None:
        """Start it."""
        with _refusals(spec):
            self._api.start(self.id)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, `seconds` at the most, and tell whether it has."""
        if seconds <= 0:
            return not self.state().running
        try:
            self._api.wait(self.id, timeout=math.ceil(seconds))
        except Timeout:
            return False
        except RequestsConnectionError as error:
            # The engine sends its headers at once, so that a limit reached later comes as this.
            if "Read timed out" in str(error):
                return False
            raise
        return True

    def stop(self) -> bool:
        """Ask it to end, kill it when it does not within a while, and tell whether it has ended."""
        return self._ends_by("SIGTERM", STOP_TIME) or self.kill()

    def kill(self) -> bool:
        """End it at once, and tell whether it has ended."""
        return self._ends_by("SIGKILL", KILL_TIME)

    def _ends_by(self, signal: str, seconds: float) -> bool:
        # An engine that cannot kill it never answers.
        with contextlib.suppress(Timeout):
            place = f"{self._api.base_url}/v{self._api.api_version}/containers/{self.id}/kill"
            self._api.post(place, params={"signal": signal}, timeout=seconds)
        return self.wait(seconds)

    def state(self) -> ContainerState:
        """Ask the engine about it."""
        return state_of(self._api.inspect_container(self.id))

    def save_console(self, path: Path) -> None:
        """Write what it printed to `path`, standard output and error as they came."""
        # The same name each time, so that a run that was killed meanwhile leaves nothing behind.
        with appearing_whole(path, beside=f".{self.id}{PASSING}") as file:
            try:
                file.writelines(self._printed())
            except HTTPError as error:  # what requests lets through where the answer breaks off
                raise RequestsConnectionError(error) from error

    def _printed(self) -> Iterator[bytes]:
        """What it printed, in pieces; docker-py would leave the connection open.

        The engine sends frames: eight bytes, of which the last four are the length of what follows.
        """
        place = f"{self._api.base_url}/v{self._api.api_version}/containers/{self.id}/logs"
        both = {"stdout": "1", "stderr": "1"}
        with self._api.get(place, params=both, stream=True, timeout=self._api.timeout) as answer:
            answer.raise_for_status()
            while len(header := answer.raw.read(_HEADER)) == _HEADER:
                left = int.from_bytes(header[4:])
                while left and (part := answer.raw.read(min(left, _PIECE))):
                    left -= len(part)
                    yield part


def state_of(about: Mapping[str, Any]) -> ContainerState:
    """Read what the engine says of a container that was inspected."""
    state = about["State"]
    return ContainerState(
        image=about["Image"],
        running=state["Running"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        started_at=_time(state["StartedAt"]),
        ended_at=_time(state["FinishedAt"]),
    )


def remove(api: docker.APIClient, container_id: str) -> bool:
    """Kill and remove a container with its volumes; tell whether nothing of it runs any more."""
    try:
        api.remove_container(container_id, v=True, force=True)
    except NotFound:
        return True
    except (DockerException, RequestException):
        with contextlib.suppress(DockerException, RequestException):
            return not state_of(api.inspect_container(container_id)).running
        return False
    return True


def _time(text: str) -> str | None:
    """The engine's time in whole microseconds; its zero time means never."""
    if text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _extra_hosts(network: str) -> dict[str, str] | None:
    # A model served on the host itself is reached under this name, as in Docker Desktop.
    return None if network in {"none", "host"} else {"host.docker.internal": "host-gateway"}


def _device_requests(gpus: str | None) -> list[DeviceRequest] | None:
    if gpus is None:
        return None
    capabilities = [["gpu"]]
    if gpus.startswith("device="):
        ids = gpus.removeprefix("device=").split(",")
        return [DeviceRequest(device_ids=ids, capabilities=capabilities)]
    count = -1 if gpus == "all" else int(gpus)
    return [DeviceRequest(count=count, capabilities=capabilities)]


# What the engine says when the run as a whole is set up wrongly, and what to do; these end the
# run, where any other refusal is the environment's fault of one attempt.
_CURES: Sequence[tuple[str, str]] = (
    (
        "No such image",
        "image {image} is not here; pull or build it (`evalset image build` for the default one)",
    ),
    (
        "bind source path does not exist",
        "the engine does not see this host's folder {private}; evals need an engine on this host",
    ),
    (
        "network {network} not found",
        "the engine has no network {network!r}; create it (`docker network create {network}`)",
    ),
    (
        "could not select device driver",
        "the engine cannot give GPUs; install the NVIDIA container toolkit, or drop --gpus",
    ),
)


@contextlib.contextmanager
def _refusals(spec: ContainerSpec) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        facts = {
            "image": spec.settings.image,
            "private": spec.private,
            "network": spec.settings.network,
        }
        said = str(error.explanation or error)
        for sign, cure in _CURES:
            if sign.format(**facts) in said:
                raise CannotRun(cure.format(**facts)) from error
        raise


def handed_in_to(api: docker.APIClient, container: str) -> dict[str, str]:
    """The variables that a container was handed, not those of its image; none if nobody knows."""
    with contextlib.suppress(DockerException, RequestException):
        about = api.inspect_container(container)
        image: dict[str, Any] = api.inspect_image(about["Image"])  # type: ignore[no-untyped-call] # its stubs lack it
        own = set(about["Config"]["Env"] or ()) - set(image["Config"]["Env"] or ())
        return {name: value for name, _, value in (each.partition("=") for each in own)}
    return {}

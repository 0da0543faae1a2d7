import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from runner.engine import docker_py
from runner.errors import EnvironmentFault
from runner.files import UNFINISHED, appearing_whole
from runner.model import ContainerSettings

# What a container may print before the engine drops the oldest part: two files of this size.
CONSOLE_FILE_SIZE = "10m"

# Seconds between the polite signal and the one that cannot be ignored.
STOP_TIME = 10

# Seconds that the kernel gets to end a killed container; then it is taken for one that cannot be
# killed, as where a process hangs in a driver or a network file system.
KILL_TIME = 10


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
        hidden: container paths within them that are empty there, and whether each is a folder.
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
    hidden: Mapping[str, bool] = {}


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
    """A container of an attempt.

    Attributes:
        id: the engine's id of it.
        keep: whether it is left where it is, because it cannot be killed.
    """

    def __init__(self, api: docker_py.Api, container_id: str) -> None:
        self._api = api
        self.id = container_id
        self.keep = False

    @classmethod
    def create(cls, api: docker_py.Api, spec: ContainerSpec) -> Self:
        """Create a container that can do nothing but compute, use its network and its `/tmp`."""
        with _refusals(spec):
            return cls(api, docker_py.create(api, _config(spec), spec.name))

    def start(self, spec: ContainerSpec) -> None:
        """Let its program run; CannotRun if the engine lacks what the spec asks for."""
        with _refusals(spec):
            self._api.start(self.id)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` until it has ended, and tell whether it has."""
        if seconds <= 0:
            return not self.state().running
        return docker_py.wait(self._api, self.id, seconds) is not None

    def stop(self) -> bool:
        """Ask it to end, kill it when it does not within a while, and tell whether it has ended."""
        return self._ends_by("SIGTERM", STOP_TIME) or self.kill()

    def kill(self) -> bool:
        """Kill it, and tell whether it has ended."""
        return self._ends_by("SIGKILL", KILL_TIME)

    def _ends_by(self, signal: str, seconds: float) -> bool:
        docker_py.kill(self._api, self.id, signal, seconds)
        return self.wait(seconds)

    def state(self) -> ContainerState:
        """Ask the engine about it."""
        about = self._api.inspect_container(self.id)
        state = about["State"]
        return ContainerState(
            image=about["Image"],
            running=state["Running"],
            exit_code=state["ExitCode"],
            oom_killed=state["OOMKilled"],
            started_at=_time(state["StartedAt"]),
            ended_at=_time(state["FinishedAt"]),
        )

    def save_console(self, path: Path) -> None:
        """Write what it printed to `path`, standard output and error as they came."""
        # The same name each time, so that a run that was killed meanwhile leaves nothing behind.
        with appearing_whole(path, temporary=f".{self.id}{UNFINISHED}") as file:
            file.writelines(docker_py.printed(self._api, self.id))


def remove(api: docker_py.Api, container_id: str) -> None:
    """Kill and remove a container with its volumes, if the engine can."""
    with contextlib.suppress(*docker_py.ERRORS):
        api.remove_container(container_id, v=True, force=True)


def _time(text: str) -> str | None:
    """The engine's time in whole microseconds; its zero time means never."""
    if text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _config(spec: ContainerSpec) -> dict[str, Any]:
    """What a container is to be, as the engine's API has it.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerCreate
    """
    settings = spec.settings
    return {
        "Image": spec.image,
        "Entrypoint": [spec.argv[0]],
        "Cmd": list(spec.argv[1:]),
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "WorkingDir": "/tmp",  # noqa: S108 - inside the container
        "User": spec.user,
        "Labels": dict(spec.labels),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Mounts": [
                bind(spec.private, "/tmp", read_only=False),  # noqa: S108 - inside the container
                *mounts(spec),
            ],
            "Memory": settings.memory,
            "MemorySwap": settings.memory,
            "NanoCpus": int((settings.cpus or 0) * 1e9),
            "PidsLimit": settings.pids_limit,
            # No single file can be larger than all of `/tmp` may be; a sparse one neither.
            "Ulimits": [{"Name": "fsize", "Soft": settings.tmp_limit, "Hard": settings.tmp_limit}],
            "NetworkMode": settings.network,
            # A model served on the host itself is reached under this name, as in Docker Desktop.
            "ExtraHosts": []
            if settings.network in {"none", "host"}
            else ["host.docker.internal:host-gateway"],
            "DeviceRequests": device_requests(settings.gpus),
            "LogConfig": json_log(CONSOLE_FILE_SIZE, files=2),
        },
    }


def mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    """The user's folders inside a container, as the engine's API has them."""
    shown = [bind(folder, place) for folder, place in spec.mounts.items()]
    empty: dict[str, Any] = {
        "Type": "tmpfs",
        "ReadOnly": True,
        "TmpfsOptions": {"SizeBytes": 4096},
    }
    nothing = Path(os.devnull)
    hidden = [
        {**empty, "Target": place} if is_folder else bind(nothing, place)
        for place, is_folder in spec.hidden.items()
    ]
    return shown + hidden


def bind(source: Path, target: str, *, read_only: bool = True) -> dict[str, Any]:
    """A folder of the host inside a container, as the engine's API has it."""
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}


def json_log(size: str, *, files: int = 1) -> dict[str, Any]:
    """Where the engine keeps what a container prints, and how much, as its API has it."""
    return {"Type": "json-file", "Config": {"max-size": size, "max-file": str(files)}}


def device_requests(gpus: str | None) -> list[dict[str, Any]]:
    """The GPUs of a container, `all`, a number or `device=ID,...`, as the engine's API has them."""
    if gpus is None:
        return []
    wanted: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": [], "Options": {}}
    if gpus.startswith("device="):
        wanted["DeviceIDs"] = gpus.removeprefix("device=").split(",")
    else:
        wanted["Count"] = -1 if gpus == "all" else int(gpus)
    return [wanted | {"Capabilities": [["gpu"]]}]


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
    except docker_py.APIError as error:
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


def environment_of(api: docker_py.Api, container: str) -> dict[str, str]:
    """The variables that were passed in, not those of the image; none if nobody knows."""
    with contextlib.suppress(*docker_py.ERRORS):
        about = api.inspect_container(container)
        image: dict[str, Any] = api.inspect_image(about["Image"])  # type: ignore[no-untyped-call] # its stubs lack it
        own = set(about["Config"]["Env"] or ()) - set(image["Config"]["Env"] or ())
        return {name: value for name, _, value in (each.partition("=") for each in own)}
    return {}

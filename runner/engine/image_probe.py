import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.engine import docker_py
from runner.engine.container import ContainerSpec, bind, device_requests, json_log, mounts, remove
from runner.engine.engine import as_environment_fault
from runner.errors import EnvironmentFault

# By this label `evalset clean` finds a probe whose runner was killed.
PROBE = "evalset.probe"

# What a shell answers when there is no such command.
NO_COMMAND = 127

TIME_LIMIT = 60

# For one that imports what evals import.
TRY_TIME = 90

# What tini, the init process of every container, prints when there is no such program, the status
# that it ends with, and seconds in which it does.
NO_SUCH_COMMAND = b"[FATAL tini"

CANNOT_START = {126, 127}

START_TIME = 10


class ProgramResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a short-lived container said."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def last_line(self) -> str:
        """The last line of stderr, which is where Python says what went wrong."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"


# What a probe must not do: write, reach anything, or use much.
_LOCKED = {
    "NetworkMode": "none",
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "PidsLimit": 64,
    "Memory": 512 << 20,
}


def ask(api: docker_py.Api, image_id: str, argv: Sequence[str]) -> ProgramResult:
    """Run `argv` in a container of the image that can neither write nor reach anything.

    An image that lacks the command answers with exit code 127.

    Raises:
        EnvironmentFault: the engine does not do its part.
    """
    config = {
        "Image": image_id,
        "Entrypoint": list(argv),
        "User": "65534:65534",
        # The engine's own limit may be too small for a whole registry.
        "HostConfig": {**_LOCKED, "LogConfig": json_log("64m")},
    }
    with as_environment_fault():
        said = _answer(api, config, TIME_LIMIT)
    if said is None:
        raise EnvironmentFault(
            f"the image {image_id} did not say within {TIME_LIMIT} s what is in it",
            "see what keeps the machine busy, then run the same command again",
        )
    return said


def _answer(api: docker_py.Api, config: Mapping[str, Any], seconds: int) -> ProgramResult | None:
    """What a container says, once it has ended; None where it does not in time."""
    container = docker_py.create(api, {**config, "Labels": {PROBE: ""}})
    try:
        try:
            api.start(container)
        except docker_py.APIError as error:
            if _lacks_command(error):
                return ProgramResult(exit_code=NO_COMMAND, stdout=b"", stderr=b"no such command")
            raise
        if (status := docker_py.wait(api, container, seconds)) is None:
            return None
        said = docker_py.streams(api, container)
        return ProgramResult(exit_code=status, stdout=said.stdout, stderr=said.stderr)
    finally:
        remove(api, container)


def _lacks_command(error: "docker_py.APIError") -> bool:
    """Whether the engine refused to start a container because the program is not in the image."""
    said = str(error.explanation or error)
    return "executable file not found" in said or "no such file or directory" in said


def lacks_program(api: docker_py.Api, spec: ContainerSpec) -> bool:
    """Whether a job's image has no such program, or none that can run.

    What an eval printed proves nothing. So the program is started again, with no argument and no
    secret, where it can neither write nor reach anything, and is killed if it runs for long.
    """
    config = {
        "Image": spec.image,
        "Entrypoint": [spec.argv[0]],
        "User": spec.user,
        "WorkingDir": "/tmp",  # noqa: S108 - inside the container
        "Env": [f"PATH={spec.environment['PATH']}"] if "PATH" in spec.environment else [],
        "HostConfig": {
            **_LOCKED,
            "Init": True,
            "Tmpfs": {"/tmp": "size=1m"},  # noqa: S108 - inside the container
            "Mounts": [
                bind(folder, place)
                for folder, place in spec.mounts.items()
                if not place.startswith("/tmp/")  # noqa: S108 - inside the container
            ],
            "LogConfig": json_log("1m"),
        },
    }
    try:
        said = _answer(api, config, START_TIME)
    except docker_py.ERRORS:
        return False
    return bool(said and said.exit_code in CANNOT_START and said.stderr.startswith(NO_SUCH_COMMAND))


class NoGpuError(EnvironmentFault):
    """The engine cannot give a container the GPUs that it is to have."""


def try_out(api: docker_py.Api, spec: ContainerSpec, argv: Sequence[str]) -> ProgramResult | None:
    """Run `argv` with all that an eval's container has, where it can reach nothing.

    It can write nowhere but to a small `/tmp` of its own.

    Returns:
        What it said; None where it did not end in time.

    Raises:
        EnvironmentFault: the engine does not do its part.
        NoGpuError: it cannot give the container its GPUs.
    """
    settings = spec.settings
    config = {
        "Image": spec.image,
        "Entrypoint": list(argv),
        "User": spec.user,
        "WorkingDir": "/tmp",  # noqa: S108 - inside the container
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "HostConfig": {
            **_LOCKED,
            "Init": True,
            "Memory": settings.memory,
            "MemorySwap": settings.memory,
            "PidsLimit": settings.pids_limit,
            "DeviceRequests": device_requests(settings.gpus),
            "Tmpfs": {"/tmp": "size=64m"},  # noqa: S108 - inside the container
            "Mounts": mounts(spec),
            "LogConfig": json_log("64m"),
        },
    }
    with as_environment_fault():
        try:
            return _answer(api, config, TRY_TIME)
        except docker_py.APIError as error:
            if "could not select device driver" in str(error.explanation or error):
                raise NoGpuError("the engine cannot give GPUs") from error
            raise


def remove_leftover_probes(api: docker_py.Api, *, older: float = 600) -> None:
    """Remove containers of probes that were killed; a probe takes a second.

    Args:
        api: a client.
        older: seconds since a container was made; a younger one may still be asked.
    """
    for about in api.containers(all=True, filters={"label": PROBE}):
        if time.time() - about["Created"] > older:
            remove(api, about["Id"])

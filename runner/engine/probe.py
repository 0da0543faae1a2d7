import contextlib
import time
from collections.abc import Sequence

import docker
import msgspec
from docker.errors import APIError, DockerException
from docker.types import LogConfig, Mount
from requests.exceptions import RequestException

from runner.engine.container import ContainerSpec, remove
from runner.engine.engine import answering

# By this label `evalset clean` finds a probe whose runner was killed.
PROBE = "evalset.probe"

# What a shell answers when there is no such command.
NO_COMMAND = 127

TIME_LIMIT = 60

# What tini, the init process of every container, prints when there is no such program, the status
# that it ends with, and seconds in which it does.
NO_SUCH_COMMAND = b"[FATAL tini"

CANNOT_START = {126, 127}

START_TIME = 10


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a short-lived container said."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def last_line(self) -> str:
        """The last line of stderr, which is where Python says what went wrong."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"


def ask(api: docker.APIClient, image_id: str, argv: Sequence[str]) -> Answer:
    """Run `argv` in a container of the image that can neither write nor reach anything.

    An image that lacks the command answers with exit code 127.

    Raises:
        EnvironmentFault: the engine does not do its part.
    """
    with answering():
        container = api.create_container(
            image_id,
            entrypoint=list(argv),
            user="65534:65534",
            labels={PROBE: ""},
            host_config=api.create_host_config(
                network_mode="none",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                pids_limit=64,
                mem_limit="512m",
                # The engine's own limit may be too small for a whole registry.
                log_config=LogConfig(type="json-file", config={"max-size": "64m"}),
            ),
        )["Id"]
        try:
            return _converse(api, container)
        finally:
            api.remove_container(container, v=True, force=True)


def _converse(api: docker.APIClient, container: str) -> Answer:
    try:
        api.start(container)
    except APIError as error:
        if lacks_command(error):
            return Answer(exit_code=NO_COMMAND, stdout=b"", stderr=b"no such command")
        raise
    # From the log, not by attaching: docker-py leaves the sockets of streams open.
    ended = api.wait(container, timeout=TIME_LIMIT)
    return Answer(
        exit_code=ended["StatusCode"],
        stdout=api.logs(container, stdout=True, stderr=False),
        stderr=api.logs(container, stdout=False, stderr=True),
    )


def lacks_command(error: APIError) -> bool:
    """Whether the engine refused to start a container because the program is not in the image."""
    said = str(error.explanation or error)
    return "executable file not found" in said or "no such file or directory" in said


def lacks_program(api: docker.APIClient, spec: ContainerSpec) -> bool:
    """Whether a job's image has no such program, or none that can run.

    What an eval printed proves nothing. So the program is started again, with no argument and no
    secret, where it can neither write nor reach anything, and is killed if it runs for long.
    """
    with contextlib.suppress(DockerException, RequestException):
        container = api.create_container(
            spec.image,
            entrypoint=[spec.argv[0]],
            user=spec.user,
            working_dir="/tmp",  # noqa: S108 - inside the container
            environment={name: spec.environment[name] for name in {"PATH"} & {*spec.environment}},
            labels={PROBE: ""},
            host_config=api.create_host_config(
                init=True,
                network_mode="none",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                pids_limit=64,
                mem_limit="512m",
                tmpfs={"/tmp": "size=1m"},  # noqa: S108 - inside the container
                mounts=[
                    Mount(place, str(folder), type="bind", read_only=True)
                    for folder, place in spec.mounts.items()
                    if not place.startswith("/tmp/")  # noqa: S108 - inside the container
                ],
                log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
            ),
        )["Id"]
        try:
            api.start(container)
            if api.wait(container, timeout=START_TIME)["StatusCode"] in CANNOT_START:
                said: bytes = api.logs(container, stdout=False, stderr=True)
                return said.startswith(NO_SUCH_COMMAND)
        finally:
            remove(api, container)
    return False


def remove_left(api: docker.APIClient, *, older: float = 600) -> None:
    """Remove containers of probes that were killed; a probe takes a second.

    Args:
        api: a client.
        older: seconds since a container was made; a younger one may still be asked.
    """
    for about in api.containers(all=True, filters={"label": PROBE}):
        if time.time() - about["Created"] > older:
            remove(api, about["Id"])

import time
from collections.abc import Sequence

import docker
import msgspec
from docker.errors import APIError
from docker.types import LogConfig

from runner.execute.container import remove
from runner.execute.engine import answering

# By this label `evalset clean` finds a probe whose runner was killed.
PROBE = "evalset.probe"

# What a shell answers when there is no such command.
NO_COMMAND = 127

TIME_LIMIT = 60


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


def remove_left(api: docker.APIClient, *, older: float = 600) -> None:
    """Remove containers of probes that were killed; a probe takes a second.

    Args:
        api: a client.
        older: seconds since a container was made; a younger one may still be asked.
    """
    for about in api.containers(all=True, filters={"label": PROBE}):
        if time.time() - about["Created"] > older:
            remove(api, about["Id"])

import docker
from docker.errors import APIError

from runner.execute.engine import answering


class PullRefusedError(Exception):
    """No image registry gives the image; the message is one line that says why."""


def pull(api: docker.APIClient, name: str) -> None:
    """Pull an image.

    Raises:
        PullRefusedError: the image registry cannot be reached, or does not give the image.
        EnvironmentFault: the engine does not do its part.
    """
    with answering():
        try:
            for line in api.pull(name, stream=True, decode=True):
                if "error" in line:
                    raise PullRefusedError(_why(line["error"]))
        except APIError as error:
            raise PullRefusedError(_why(str(error.explanation or error))) from error


def _why(said: str) -> str:
    text = " ".join(said.split())
    if any(hint in text for hint in ("no such host", "dial tcp", "timeout", "Temporary failure")):
        return f"no image registry can be reached ({text.removeprefix('Get ')})"
    return f"the image registry said: {text}"

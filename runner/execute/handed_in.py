import contextlib
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException


def handed_in_to(api: docker.APIClient, container: str) -> dict[str, str]:
    """The variables that a container was handed, not those of its image; none if nobody knows."""
    with contextlib.suppress(DockerException, RequestException):
        about = api.inspect_container(container)
        image: dict[str, Any] = api.inspect_image(about["Image"])  # type: ignore[no-untyped-call] # its stubs lack it
        own = set(about["Config"]["Env"] or ()) - set(image["Config"]["Env"] or ())
        return {name: value for name, _, value in (each.partition("=") for each in own)}
    return {}

import contextlib
import enum
import json
from collections.abc import Callable
from pathlib import Path

import docker
import msgspec
from docker.errors import DockerException, NotFound
from requests.exceptions import RequestException

from runner.engine.container import Container, remove
from runner.engine.engine import Engine, answering
from runner.errors import EnvironmentFault
from runner.host import this_host
from runner.model import Command
from runner.records.folders import remove_private
from runner.records.layout import Layout


class Label(enum.StrEnum):
    """Labels by which our containers are found again.

    None of them holds anything secret: everyone who may ask the engine can read them.
    """

    RUN = "evalset.run"
    JOB = "evalset.job"
    COMMAND = "evalset.command"
    ATTEMPT = "evalset.attempt"
    HOST = "evalset.host"
    PROGRESS = "evalset.progress"
    MODEL = "evalset.model"
    EVAL_SET = "evalset.eval_set"
    # A moment by a clock that nobody sets: see ending.py.
    CREATED = "evalset.created"


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A container that an earlier run left.

    Attributes:
        attempt: id of the attempt.
        command: identity of its job.
        container: the engine's id.
        created: when, as `ending.stamp` has it; empty where that is not known.
        running: whether it has not ended.
    """

    attempt: str
    command: Command
    container: str
    created: str
    running: bool


def find_left(api: docker.APIClient, layout: Layout, host: str) -> list[Left]:
    """Containers of earlier runs of this model and eval set, running or ended."""
    labels = {
        Label.HOST: host,
        Label.PROGRESS: str(layout.root),
        Label.MODEL: layout.model,
        Label.EVAL_SET: layout.eval_set,
    }
    listed = api.containers(
        all=True, filters={"label": [f"{name}={value}" for name, value in labels.items()]}
    )
    return [
        Left(
            attempt=about["Labels"][Label.ATTEMPT],
            command=Command(json.loads(about["Labels"][Label.COMMAND])),
            container=about["Id"],
            created=about["Labels"].get(Label.CREATED, ""),
            running=about["State"] == "running",
        )
        for about in listed
    ]


def remove_attempt(api: docker.APIClient, attempt: str) -> None:
    """Remove the container of an attempt, if there is one."""
    with contextlib.suppress(DockerException, RequestException):
        for about in api.containers(all=True, filters={"label": f"{Label.ATTEMPT}={attempt}"}):
            remove(api, about["Id"])


def discard(api: docker.APIClient, layout: Layout, left: Left) -> bool:
    """Remove a container that was left, killing it where it runs, and its private folder.

    Returns:
        Whether it has ended. One that cannot be killed keeps its folder, for it could write there.
    """
    ended = _killed(api, left.container)
    if ended:
        # The folder first: nobody would look for it once its container is gone.
        remove_private(layout, left.attempt)
        remove(api, left.container)
    return ended


def _killed(api: docker.APIClient, container: str) -> bool:
    try:
        return Container(api, container).kill()
    except NotFound:
        return True
    except (DockerException, RequestException):
        return False


def sweep(
    api: docker.APIClient, layout: Layout, host: str, recorded: Callable[[str], bool]
) -> None:
    """Remove what could not be removed when its outcome was recorded, for the engine was away."""
    with contextlib.suppress(DockerException, RequestException):
        for left in find_left(api, layout, host):
            if recorded(left.attempt):
                discard(api, layout, left)


def layouts_with_containers(api: docker.APIClient, root: Path, host: str) -> list[Layout]:
    """Every model and eval set of a progress directory that has containers on this host."""
    found = _labels(api, root, host)
    pairs = {(labels[Label.MODEL], labels[Label.EVAL_SET]) for labels in found}
    return [Layout(root=root, model=model, eval_set=name) for model, name in sorted(pairs)]


def attempts_with_containers(api: docker.APIClient, root: Path, host: str) -> set[str]:
    """Ids of the attempts in a progress directory that have a container on this host."""
    return {labels[Label.ATTEMPT] for labels in _labels(api, root, host)}


def _labels(api: docker.APIClient, root: Path, host: str) -> list[dict[str, str]]:
    wanted = [f"{Label.HOST}={host}", f"{Label.PROGRESS}={root}"]
    return [about["Labels"] for about in api.containers(all=True, filters={"label": wanted})]


def running_commands(layout: Layout) -> set[Command]:
    """Commands that run now, also those of a run that was killed; without an engine none does."""
    return {one.command for one in containers_of(layout) if one.running}


def containers_of(layout: Layout) -> list[Left]:
    """Containers of runs that go on or were killed; none without an engine."""
    try:
        engine = Engine()
        with answering():
            return find_left(engine.api, layout, this_host().name)
    except EnvironmentFault:
        return []

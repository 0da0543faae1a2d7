import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec

from runner.engine import docker_py
from runner.engine.container import Container, remove
from runner.engine.engine import Engine, as_environment_fault
from runner.engine.labels import Label
from runner.errors import EnvironmentFault
from runner.host import this_host
from runner.model import Command
from runner.records.folders import remove_private
from runner.records.layout import Layout


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """A container that an earlier run left.

    Attributes:
        layout: of its model and eval set.
        attempt: id of the attempt.
        command: identity of its job.
        container: the engine's id.
        created: when, as `ending.stamp` has it; empty where that is not known.
        running: whether it has not ended.
    """

    layout: Layout
    attempt: str
    command: Command
    container: str
    created: str
    running: bool


def leftovers_below(
    api: docker_py.Api, root: Path, host: str, *, known_as: str = ""
) -> list[Leftover]:
    """Containers of earlier runs in a progress directory on this host, running or ended.

    Args:
        known_as: what labels have for the directory, if not its path.
    """
    wanted = [f"{Label.HOST}={host}", f"{Label.PROGRESS}={known_as or root}"]
    return [
        Leftover(
            layout=Layout(root=root, model=labels[Label.MODEL], eval_set=labels[Label.EVAL_SET]),
            attempt=labels[Label.ATTEMPT],
            command=Command(json.loads(labels[Label.COMMAND])),
            container=about["Id"],
            created=labels.get(Label.CREATED, ""),
            running=about["State"] == "running",
        )
        for about in api.containers(all=True, filters={"label": wanted})
        for labels in [about["Labels"]]
    ]


def find_leftovers(
    api: docker_py.Api, layout: Layout, host: str, *, known_as: str = ""
) -> list[Leftover]:
    """Those of one model and eval set; `known_as` is as above."""
    found = leftovers_below(api, layout.root, host, known_as=known_as)
    return [one for one in found if one.layout == layout]


def remove_attempt(api: docker_py.Api, attempt: str) -> None:
    """Remove the container of an attempt, if there is one."""
    with contextlib.suppress(*docker_py.ERRORS):
        for about in api.containers(all=True, filters={"label": f"{Label.ATTEMPT}={attempt}"}):
            remove(api, about["Id"])


def discard(api: docker_py.Api, leftover: Leftover) -> bool:
    """Remove a container that was left, killing it where it runs, and its private folder.

    Returns:
        Whether it has ended. One that cannot be killed keeps its folder, because it could write
        there.
    """
    try:
        ended = Container(api, leftover.container).kill()
    except docker_py.NotFound:
        ended = True
    except docker_py.ERRORS:
        ended = False
    if ended:
        # The folder first: nobody would look for it once its container is gone.
        remove_private(leftover.layout, leftover.attempt)
        remove(api, leftover.container)
    return ended


def sweep(api: docker_py.Api, layout: Layout, host: str, recorded: Callable[[str], bool]) -> None:
    """Remove what could not be removed when its outcome was recorded: the engine was away."""
    with contextlib.suppress(*docker_py.ERRORS):
        for leftover in find_leftovers(api, layout, host):
            if recorded(leftover.attempt):
                discard(api, leftover)


def discard_all(api: docker_py.Api, root: Path, host: str) -> None:
    """Remove the containers that a killed run left in a progress directory that nobody needs."""
    with as_environment_fault():
        for leftover in leftovers_below(api, root, host):
            discard(api, leftover)


def containers_of(layout: Layout) -> list[Leftover]:
    """Containers of runs under way and of killed ones; none without an engine."""
    try:
        engine = Engine()
        with as_environment_fault():
            return find_leftovers(engine.api, layout, this_host().name)
    except EnvironmentFault:
        return []

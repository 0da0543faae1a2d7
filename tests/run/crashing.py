"""Runs that are killed, and what they leave."""

import json
import signal
import socket

from runner.engine.container import Container, ContainerSpec
from runner.engine.labels import Label
from runner.image.image import find_image
from runner.model import ContainerSettings
from runner.records.folders import private_folder
from tests.conftest import Place, engine_api


def crash(place: Place, running: int, *options: str) -> list[str]:
    """Kill a run once so many of its evals wait; give the ids of its containers."""
    with place.running(*options) as run:
        place.until_running(running)
        run.send_signal(signal.SIGKILL)
        run.wait()
    return place.containers()


def end(place: Place, container: str) -> None:
    """Let a container's eval end, and wait until it has."""
    place.let_go()
    engine_api().wait(container, timeout=20)


def end_first(place: Place, content: str = "") -> str:
    """Let the oldest of the waiting evals end, and wait until it has; give the attempt's id."""
    first = min((place.progress / ".attempts").iterdir())
    filters = {"label": f"{Label.ATTEMPT}={first.name}"}
    (about,) = engine_api().containers(filters=filters)
    (first / "go").write_text(content)
    engine_api().wait(about["Id"], timeout=20)
    return first.name


def create_left(place: Place, name: str, *, attempt: str) -> str:
    """Create a container as a run does that is killed before it starts it; give its id."""
    settings = ContainerSettings(
        image=place.image,
        memory=64 << 20,
        cpus=None,
        pids_limit=50,
        gpus=None,
        timeout=60,
        network="none",
    )
    command = ["/bin/program", "m", name, "--registry_path", "/registry/0"]
    spec = ContainerSpec(
        name=f"evalset-test-{attempt}",
        image=find_image(engine_api(), place.image).id,
        argv=tuple(command),
        private=place.layout.private(attempt),
        mounts={},
        environment={},
        labels={
            Label.COMMAND: json.dumps(command),
            Label.ATTEMPT: attempt,
            Label.HOST: socket.gethostname(),
            Label.PROGRESS: str(place.progress),
            Label.MODEL: "m",
            Label.EVAL_SET: "s",
        },
        user="0:0",
        settings=settings,
    )
    with private_folder(place.layout, attempt):
        return Container.create(engine_api(), spec).id

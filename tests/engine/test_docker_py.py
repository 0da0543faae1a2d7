"""What a run asks before docker-py is imported must be what docker-py would ask."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig, Mount, Ulimit
from requests.exceptions import ConnectionError as RequestsConnectionError

from runner.engine.container import Container, ContainerSpec
from runner.engine.docker_py import Client, plain_socket
from runner.engine.engine import Engine
from runner.model import ContainerSettings
from tests.conftest import Place
from tests.proxy import proxied

VERSION = "1.41"
SPEC = ContainerSpec(
    name="evalset-e-a",
    image="sha256:abc",
    argv=("oaieval", "m", "e", "--x=ä"),
    private=Path("/p/.attempts/a"),
    mounts={Path("/registry"): "/registry/0"},
    environment={"HOME": "/tmp", "KEY": "a=b", "EMPTY": ""},
    labels={"evalset.attempt": "a"},
    user="1:2",
    settings=ContainerSettings(
        image="i",
        memory=2**30,
        cpus=1.5,
        pids_limit=100,
        gpus="device=0,1",
        timeout=1,
        network="evalset",
        tmp_limit=2**20,
    ),
)


def without_defaults(body: Any) -> Any:  # noqa: ANN401 - JSON
    """A request without what the engine takes for not given."""
    if isinstance(body, Mapping):
        kept = {name: without_defaults(value) for name, value in body.items()}
        return {name: value for name, value in kept.items() if value or value == ""}
    return [without_defaults(each) for each in body] if isinstance(body, list) else body


def asked(api: docker.APIClient, spec: ContainerSpec) -> Any:  # noqa: ANN401 - JSON
    """What docker-py sends for a container."""
    settings = spec.settings
    config = api.create_container_config(
        spec.image,
        list(spec.argv[1:]),
        entrypoint=[spec.argv[0]],
        environment=dict(spec.environment),
        working_dir="/tmp",
        user=spec.user,
        labels=dict(spec.labels),
        host_config=api.create_host_config(
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            mounts=[
                Mount("/tmp", str(spec.private), type="bind"),
                *(
                    Mount(place, str(folder), type="bind", read_only=True)
                    for folder, place in spec.mounts.items()
                ),
            ],
            mem_limit=settings.memory,
            memswap_limit=settings.memory,
            nano_cpus=int((settings.cpus or 0) * 1e9),
            pids_limit=settings.pids_limit,
            ulimits=[Ulimit(name="fsize", soft=settings.tmp_limit, hard=settings.tmp_limit)],
            network_mode=settings.network,
            extra_hosts={"host.docker.internal": "host-gateway"},
            device_requests=[DeviceRequest(device_ids=["0", "1"], capabilities=[["gpu"]])],
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "2"}),
        ),
    )
    return json.loads(json.dumps(config))


def test_a_container_is_asked_for_as_docker_py_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte but for what is empty."""
    bodies = []

    def ask(*args: Any) -> dict[str, str]:  # noqa: ANN401 - as the original
        bodies.append(json.loads(args[-1]))
        return {"Id": "1"}

    api = docker.APIClient(version=VERSION)
    first = Client("/nowhere", VERSION)
    monkeypatch.setattr(first, "_ask", ask)
    assert Container.create(first, SPEC).id == "1"  # type: ignore[arg-type] # stands in for it
    assert without_defaults(bodies[0]) == without_defaults(asked(api, SPEC))


def test_nothing_of_docker_py_is_imported_for_them() -> None:
    """The import takes longer than they do."""
    heavy = ("docker", "requests", "urllib3")
    code = f"import sys, runner.commands.run; print({heavy} & sys.modules.keys() or '')"
    code = code.replace(str(heavy), str(set(heavy)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("environ", "config", "found"),
    [
        ({}, None, "/var/run/docker.sock"),
        ({"DOCKER_HOST": ""}, "{}", "/var/run/docker.sock"),
        ({"DOCKER_HOST": "unix:///a/b-c.sock"}, '{"auths": {}}', "/a/b-c.sock"),
        ({"DOCKER_HOST": "unix://a/b"}, None, None),
        ({"DOCKER_HOST": "tcp://127.0.0.1:1"}, None, None),
        ({"DOCKER_HOST": "ssh://me@there"}, None, None),
        ({"DOCKER_CONTEXT": "other"}, None, None),
        ({"DOCKER_TLS_VERIFY": "1"}, None, None),
        ({"DOCKER_CERT_PATH": "/certs"}, None, None),
        ({}, '{"currentContext": "other"}', None),
        ({}, '{"HttpHeaders": {"X": "y"}}', None),
        ({}, '{"proxies": {"default": {"httpProxy": "http://p"}}}', None),
    ],
)
def test_only_a_plain_socket_is_asked_directly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    config: str | None,
    found: str | None,
) -> None:
    """What else docker-py knows of the environment and of Docker's configuration is left to it."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if config is not None:
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker/config.json").write_text(config)
    assert plain_socket() == found


@pytest.mark.docker
def test_what_the_engine_refuses_is_docker_pys_error() -> None:
    """With the engine's words, and of the same class."""
    api: Any = Engine().api
    assert isinstance(api, Client)
    with pytest.raises(ImageNotFound):
        api.inspect_image("evalset/none")
    with pytest.raises(NotFound):
        api.start("none")
    with pytest.raises(APIError, match=r"[Nn]o such image"):
        api.create_container_from_config({"Image": "evalset/none"})


@pytest.mark.docker
def test_an_engine_that_is_gone_is_docker_pys_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may have been done is not asked for again."""
    with proxied(place.folder) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        api: Any = Engine().api
        assert isinstance(api, Client)
        proxy.end()
        for ask in (
            api.info,
            lambda: api.start("none"),
            lambda: api.create_container_from_config({}),
        ):
            with pytest.raises(RequestsConnectionError):
                ask()
        proxy.begin()

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.engine.container import device_requests
from runner.engine.labels import Label
from runner.options import EVAL_NETWORK
from tests.conftest import Place, engine_api, until

pytestmark = pytest.mark.docker

KEY = "look.v0"


@pytest.fixture(scope="module")
def inside(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, test_image: str
) -> Mapping[str, Any]:
    """What an eval sees from inside its container."""
    place = Place(tmp_path_factory.mktemp("inside"), cache, test_image)
    place.registry(KEY)
    variables = {"OPENAI_API_KEY": "k", "MINE": "mine", "OTHERS": "others", "EVALS_X": "1"}
    ended = place.run("--no-gateway", "--user", "me", **variables)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = place.reports()[KEY]
    return report


@pytest.fixture(scope="module")
def outside(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, test_image: str
) -> Iterator[Mapping[str, Any]]:
    """What the engine says of an eval's container while it runs, under our own default limits."""
    place = Place(tmp_path_factory.mktemp("outside"), cache, test_image)
    place.registry("wait.v0")
    options = ("--memory", "128m", "--cpus", "0.5", "--pids-limit", "77", "--network", EVAL_NETWORK)
    with place.running(*options) as run:
        place.until_running(1)
        (container,) = place.containers()
        about = engine_api().inspect_container(container)
        place.let_go()
        assert run.wait(20) == 0
    about["place"] = place
    yield about
    assert not place.leftovers()


def test_an_eval_has_no_capability(inside: Mapping[str, Any]) -> None:
    """Every set of capabilities is empty, though the eval may be root."""
    assert set(inside["capabilities"].values()) == {"0" * 16}
    assert len(inside["capabilities"]) == 5


def test_an_eval_gains_no_privileges(inside: Mapping[str, Any]) -> None:
    """A set-uid program gives nothing."""
    assert inside["no_new_privs"] == "1"


def test_an_eval_writes_nowhere_but_to_its_tmp(inside: Mapping[str, Any]) -> None:
    """The root file system, the registry and other mounts refuse to be written."""
    refused = ["/home/x", "/registry/0/x", "/etc/x", "/var/x"]
    assert set(refused) <= set(inside["refused"])


def test_an_eval_finds_an_empty_tmp(inside: Mapping[str, Any]) -> None:
    """Nothing of the host's or of another eval's is there, and it is where the eval starts."""
    assert inside["tmp"] == []
    assert inside["folder"] == "/tmp"


def test_an_eval_is_the_user(inside: Mapping[str, Any]) -> None:
    """Its uid and gid are those of who started the run."""
    assert (inside["uid"], inside["gid"]) == (os.getuid(), os.getgid())


def test_an_eval_sees_only_variables_that_were_variables_for_containers(
    inside: Mapping[str, Any],
) -> None:
    """The usual names go in where they are set; nothing else of the host's does."""
    assert set(inside["environment"]) - {"LC_CTYPE"} <= {
        "PATH",
        "HOME",
        "HOSTNAME",
        "IN_THE_IMAGE",
        "OPENAI_API_KEY",
        "EVALS_X",
        *("LANG", "GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"),  # of a base from an image registry
    }
    assert inside["environment"]["OPENAI_API_KEY"] == "k"
    assert inside["environment"]["HOME"] == "/tmp"


def test_a_registry_is_mounted_at_a_fixed_place(inside: Mapping[str, Any]) -> None:
    """The command names that place, so that it is the same on every host."""
    assert inside["registry"] == ["containers", "eval_sets", "evals"]
    arguments = ["/bin/program", "m", KEY, "--user", "me", "--registry_path", "/registry/0"]
    assert inside["arguments"] == arguments


def test_an_eval_without_network_has_no_route(inside: Mapping[str, Any]) -> None:
    """`--network none` leaves no way out."""
    assert inside["routes"] == []


def test_an_init_process_reaps_and_passes_signals_on(inside: Mapping[str, Any]) -> None:
    """The first process is Docker's init, not the eval."""
    assert inside["init"] in {"docker-init", "tini"}


def test_user_and_limits_are_those_asked_for(outside: Mapping[str, Any]) -> None:
    """User, memory (swap included), CPUs, processes and the size of the console log are bounded."""
    host = outside["HostConfig"]
    assert outside["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
    assert host["Memory"] == host["MemorySwap"] == 128 << 20
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 77
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "2"},
    }
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]


def test_a_container_is_labelled(outside: Mapping[str, Any]) -> None:
    """Run, job, command, attempt, host, progress directory, model and eval set are on it."""
    place: Place = outside["place"]
    labels = outside["Config"]["Labels"]
    (record,) = place.records()
    assert {Label(name) for name in labels if name in set(Label)} == set(Label)
    assert labels[Label.ATTEMPT] == record.id
    assert labels[Label.HOST] == record.host
    assert labels[Label.PROGRESS] == str(place.progress)
    assert (labels[Label.MODEL], labels[Label.EVAL_SET]) == ("m", "s")


def test_evals_are_on_a_bridge_of_our_own(outside: Mapping[str, Any]) -> None:
    """They do not share a network with the machine's other containers."""
    assert list(outside["NetworkSettings"]["Networks"]) == [EVAL_NETWORK]


def test_only_the_private_folder_is_writable(outside: Mapping[str, Any]) -> None:
    """Of the host's folders, the eval's own is mounted for writing, and closed to other users."""
    place: Place = outside["place"]
    writable = [mount for mount in outside["Mounts"] if mount["RW"] and mount["Type"] == "bind"]
    assert [mount["Destination"] for mount in writable] == ["/tmp"]
    assert Path(writable[0]["Source"]).parent == place.progress / ".attempts"


def test_volumes_go_with_the_container(outside: Mapping[str, Any]) -> None:
    """A volume that the image declares is not left on the host."""
    (volume,) = [mount["Name"] for mount in outside["Mounts"] if mount["Type"] == "volume"]
    names = [each["Name"] for each in engine_api().volumes()["Volumes"] or []]
    assert volume not in names


def test_evals_cannot_reach_one_another(place: Place) -> None:
    """On the network that they share, one eval's port answers nobody but itself."""
    place.registry("listen.v0", "connect.v0")
    with place.running("--network", EVAL_NETWORK, "--jobs", "2", "--memory", "128m") as run:
        place.until_running(2)
        about = {}
        for container in place.containers():
            found = engine_api().inspect_container(container)
            about[json.loads(found["Config"]["Labels"][Label.COMMAND])[2]] = found
        address = about["listen.v0"]["NetworkSettings"]["Networks"][EVAL_NETWORK]["IPAddress"]
        # It does listen: the host, which is at the bridge's other end, gets an answer.
        socket.create_connection((address, 7777), timeout=5).close()
        attempt = about["connect.v0"]["Config"]["Labels"][Label.ATTEMPT]
        private = place.progress / ".attempts" / attempt
        (private / "addresses").write_text(address)
        (private / "go").write_text("")
        until(place.finished)
        place.let_go()
        assert run.wait(20) == 0
    assert place.reports()["connect.v0"]["reached"] == []


def test_a_fork_bomb_ends_at_the_limit(place: Place) -> None:
    """An eval gets so many processes and no more."""
    place.registry("fork.v0")
    assert place.run("--pids-limit", "20").returncode == 0
    processes = place.reports()["fork.v0"]["processes"]
    assert isinstance(processes, int)
    assert 0 < processes < 20


def test_a_flood_of_output_keeps_the_end(place: Place) -> None:
    """Of 30 MB that an eval prints, a bounded part is kept, the newest."""
    place.registry("flood.v0")
    assert place.run().returncode == 0
    (record,) = place.records()
    assert record.console_log
    kept = (place.progress / record.console_log).read_bytes()
    assert len(kept) <= 20_000_000
    assert kept.endswith(b"the end\n")


@pytest.mark.parametrize(
    ("gpus", "request_"),
    [
        ("all", {"Count": -1, "DeviceIDs": []}),
        ("2", {"Count": 2, "DeviceIDs": []}),
        ("device=0,1", {"Count": 0, "DeviceIDs": ["0", "1"]}),
    ],
)
def test_gpus_are_asked_for_as_docker_does(gpus: str, request_: dict[str, object]) -> None:
    """The three forms of `docker run --gpus` reach the engine's API."""
    (made,) = device_requests(gpus)
    assert request_.items() <= made.items()
    assert made["Capabilities"] == [["gpu"]]
    assert device_requests(None) == []

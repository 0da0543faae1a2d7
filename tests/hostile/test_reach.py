"""What an eval can see, change and reach from inside, by one run of all that look."""

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bridge import gateway
from tests.hostile.conftest import Hostile, tidied

pytestmark = pytest.mark.docker

ABSTRACT = f"evalset-hostile-{os.getpid()}"


@pytest.fixture(scope="module")
def host() -> Iterator[list[str]]:
    """Servers on this host, on loopback, on a bridge and without an address; where they are."""
    address = gateway()
    with (
        socket.create_server(("127.0.0.1", 0)) as loopback,
        socket.create_server((address, 0)) as bridge,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind(f"\0{ABSTRACT}")
        abstract.listen()
        ports = [server.getsockname()[1] for server in (loopback, bridge)]
        yield [f"127.0.0.1:{ports[0]}", f"{address}:{ports[1]}", f"abstract:{ABSTRACT}"]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, hostile_image: str, host: list[str]
) -> Iterator[Hostile]:
    """Where the victim's eval has finished, and all that look have looked."""
    with tidied(Hostile(tmp_path_factory.mktemp("reach"), cache, hostile_image)) as found:
        folder = found.registry("victim")
        (folder / "targets").write_text("\n".join([*host, "192.0.2.1:53", "1.1.1.1:443"]))
        assert found.run().returncode == 0
        (found.folder / "planted-outside").write_text("")
        (found.folder / "before").mkdir()
        for path in [*found.progress.rglob("*.txt"), *found.progress.rglob("*.jsonl")]:
            (found.folder / "before" / path.name).write_bytes(path.read_bytes())
        found.attack(
            *("victim", "records", "processes", "network", "places", "rights"),
            NOT_HANDED_IN="a-secret-of-the-host",
            AWS_SECRET_ACCESS_KEY="a-secret-of-the-host",  # noqa: S106 - not really
            OPENAI_API_KEY="handed-in-as-always",
            EVALSET_GATEWAY="false",
        )
        yield found


@pytest.fixture(scope="module")
def facts(place: Hostile) -> Mapping[str, Any]:
    """What each reported."""
    return place.reports()


def test_other_results_and_the_engine_are_not_there(facts: Mapping[str, Any]) -> None:
    """Neither the records, nor another attempt's folder, nor the engine's socket can be found."""
    seen = facts["records"]
    assert seen["found"] == []
    assert seen["own"] == []
    assert "/hostile" in seen["around"]
    assert seen["by_handle"] != "opened"


def test_its_tmp_is_all_of_the_host_that_it_may_write(facts: Mapping[str, Any]) -> None:
    """Besides that, what every container has to itself, in memory."""
    kernels = ("/proc", "/sys", "/dev")
    writable = [place for place in facts["records"]["writable"] if not place.startswith(kernels)]
    assert writable == ["/tmp"]
    assert "/registry/0" in facts["records"]["mounted"]


def test_nothing_is_written_outside(facts: Mapping[str, Any]) -> None:
    """The root file system, registries, the kernel's settings and the limits refuse it."""
    seen = facts["places"]
    assert seen["written"] == []
    assert seen["tried"] > 30
    assert seen["inside"]
    assert seen["devices"] == []


def test_what_others_have_recorded_is_as_it_was(place: Hostile) -> None:
    """After all those attempts, the victim's lines and logs are the same bytes."""
    progress = place.layout.progress
    before = place.folder / "before"
    assert progress.read_bytes().startswith((before / progress.name).read_bytes())
    attempts = place.layout.attempts
    assert attempts.read_bytes().startswith((before / attempts.name).read_bytes())
    (log,) = place.records()[0].logs
    assert (place.progress / log).read_bytes() == (before / Path(log).name).read_bytes()


def test_no_right_is_gained(facts: Mapping[str, Any]) -> None:
    """Mounts, devices, namespaces, other users, raw sockets, the kernel: each try fails."""
    seen = facts["rights"]
    assert seen["worked"] == []
    assert seen["tried"] > 30
    assert seen["control"]


@pytest.mark.parametrize("program", ["own", "made"])
def test_a_set_uid_program_gives_nothing(facts: Mapping[str, Any], program: str) -> None:
    """Capabilities are empty, the bounding set too, calls are filtered; so for one that it made."""
    said = facts["rights"][program]
    assert {said[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
    assert said["Uid"] == " ".join([str(os.getuid())] * 4)


def test_only_its_own_processes_are_seen(facts: Mapping[str, Any]) -> None:
    """Neither the runner nor another eval is among them."""
    seen = facts["processes"]["seen"]
    assert seen["1"].startswith("/sbin/docker-init")
    assert len(seen) == 2
    assert all("/hostile/program m processes" in line for line in seen.values())


def test_variables_that_were_not_handed_in_are_not_seen(facts: Mapping[str, Any]) -> None:
    """Not in its own environment, and not in the first process's."""
    seen = facts["processes"]
    assert "OPENAI_API_KEY=***" in seen["everything"]  # the record does not say more
    assert "a-secret-of-the-host" not in seen["everything"]
    usual = {"HOME", "HOSTNAME", "OPENAI_API_KEY", "PATH", "LC_CTYPE"}  # the last is Python's
    assert set(seen["environment"]) - usual == set(seen["first"]) - usual
    assert not {"NOT_HANDED_IN", "AWS_SECRET_ACCESS_KEY"} & {*seen["environment"], *seen["first"]}


def test_without_a_network_nobody_is_reached(facts: Mapping[str, Any]) -> None:
    """Neither the host, by any address, nor a name, nor the internet; its own loopback works."""
    seen = facts["network"]
    assert seen["reached"] == []
    assert seen["interfaces"] == ["lo"]
    assert seen["own"]


def test_the_servers_that_are_not_reached_can_be(host: list[str]) -> None:
    """From the host itself; else the test above would prove nothing."""
    for target in host:
        name, _, port = target.rpartition(":")
        if name == "abstract":
            with socket.socket(socket.AF_UNIX) as out:
                out.connect(f"\0{port}")
        else:
            socket.create_connection((name, int(port)), timeout=2).close()


def test_a_neighbour_on_the_shared_network_is_not_reached(hostile: Hostile) -> None:
    """Every address of the bridge is tried on the port on which another eval listens."""
    hostile.registry("serve", "scan")
    with hostile.running("--jobs", "2", "--network", "evalset") as run:
        run.communicate(timeout=60)
    seen: Mapping[str, Any] = hostile.reports()
    assert seen["serve"] == {"visited": False}
    assert set(seen["scan"]["reached"]) <= {seen["scan"]["own"]}
    assert seen["scan"]["six"] == []

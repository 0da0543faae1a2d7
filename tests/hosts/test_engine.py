import os
import subprocess

import docker
import pytest

from tests.bridge import number_and_addresses
from tests.conftest import engine_api
from tests.hosts.engine import SecondEngine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="a second Docker engine needs root"),
]


def start(api: docker.APIClient, image: str) -> str:
    """Start a container that runs until it is killed; give its id."""
    made: str = api.create_container(image, ["sleep", "600"])["Id"]
    api.start(made)
    return made


def test_a_second_engine_leaves_the_first_one_alone(host_a: SecondEngine, test_image: str) -> None:
    """Neither sees the other's containers; the bridge and a container stay, whatever happens."""
    ours = engine_api()
    before = number_and_addresses()
    mine = start(ours, test_image)
    try:
        started = ours.inspect_container(mine)["State"]
        theirs = start(host_a.api, test_image)
        seen = {each["Id"] for each in ours.containers(all=True)}
        assert [each["Id"] for each in host_a.api.containers(all=True)] == [theirs]
        assert mine in seen
        assert theirs not in seen
        host_a.power_off()
        host_a.power_on()
        assert ours.inspect_container(mine)["State"] == started
        assert number_and_addresses() == before
    finally:
        ours.remove_container(mine, force=True, v=True)


def test_a_power_loss_ends_all_that_ran_on_the_host(host_a: SecondEngine, test_image: str) -> None:
    """Started again, the engine has its container on its disk, and knows that it ended."""
    made = start(host_a.api, test_image)
    with subprocess.Popen(host_a.inside("sleep", "600")) as process:
        host_a.power_off()
        assert process.wait(10) != 0
    host_a.power_on()
    state = host_a.api.inspect_container(made)["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 255)


def test_a_host_has_a_name_of_its_own(host_a: SecondEngine) -> None:
    """Programs there see it, and the machine's name stays as it is."""
    before = os.uname().nodename
    shown = subprocess.run(host_a.inside("uname", "-n"), capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == host_a.name != before
    assert os.uname().nodename == before


def test_nothing_of_a_second_engine_stays() -> None:
    """Its processes, network, mounts, cgroups and files go with it."""
    engine = SecondEngine()
    try:
        engine.power_on()
        assert engine.leftovers()
        engine.power_off()
    finally:
        engine.remove()
    assert engine.leftovers() == []

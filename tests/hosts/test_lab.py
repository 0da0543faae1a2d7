import os
import signal
from pathlib import Path

import docker
import pytest

from tests.conftest import until
from tests.hosts.lab import Lab, lab

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]


def start(api: docker.APIClient, image: str) -> str:
    """Start a container that the engine starts again whenever it ends; give its id."""
    settings = api.create_host_config(
        restart_policy={"Name": "unless-stopped"}, network_mode="none"
    )
    made: str = api.create_container(image, ["sleep", "600"], host_config=settings)["Id"]
    api.start(made)
    return made


def test_docker_on_each_host_is_reached_by_ssh(hosts: Lab) -> None:
    """With nothing but the host's name; each has its own engine, home and disk."""
    for host in hosts.hosts:
        asked = hosts.ssh(host, "touch here; ls; docker info --format '{{.Name}}'")
        assert asked.stdout.split() == ["here", host.name]


def test_a_host_that_is_cut_off_says_nothing_and_comes_back(hosts: Lab) -> None:
    """A connection that is open meanwhile survives; the other hosts are not affected."""
    a, b, _ = hosts.hosts
    hosts.cut(a)
    refused = hosts.ssh(a, "true", options=("-o", "ConnectTimeout=1"))
    assert "timed out" in refused.stderr
    assert hosts.ssh(b, "true").returncode == 0
    hosts.join(a)
    until(lambda: hosts.ssh(a, "true").returncode == 0)


def test_a_host_without_power_is_silent_and_has_its_disk_when_it_is_back(hosts: Lab) -> None:
    """Its SSH server starts with it."""
    a = hosts.hosts[0]
    hosts.ssh(a, "echo kept > file")
    hosts.take_power(a)
    assert "timed out" in hosts.ssh(a, "true", options=("-o", "ConnectTimeout=1")).stderr
    hosts.give_power(a)
    until(lambda: hosts.ssh(a, "true").returncode == 0)
    assert hosts.ssh(a, "cat file").stdout == "kept\n"


def test_a_killed_container_is_started_again_by_its_engine(hosts: Lab, test_image: str) -> None:
    """Because the engine did not kill it."""
    a = hosts.hosts[0]
    made = start(a.api, test_image)
    a.signal(made, signal.SIGKILL)
    until(lambda: a.api.inspect_container(made)["RestartCount"] == 1)


def test_a_hosts_disk_can_be_full(hosts: Lab) -> None:
    """That of the other hosts is not."""
    a, b, _ = hosts.hosts
    a.fill()
    write = "head -c 65536 /dev/zero > /var/lib/file"
    assert "No space left" in hosts.ssh(a, write).stderr
    assert hosts.ssh(b, write).returncode == 0
    a.empty()
    assert hosts.ssh(a, write).returncode == 0


def test_a_key_may_be_refused(hosts: Lab) -> None:
    """And taken again."""
    a = hosts.hosts[0]
    a.lock_out()
    assert "Permission denied" in hosts.ssh(a, "true").stderr
    a.let_in()
    assert hosts.ssh(a, "true").returncode == 0


def test_nothing_of_a_lab_stays() -> None:
    """No process, network, mount, cgroup or file; not even after a power loss."""

    def plugs() -> list[Path]:
        return [plug for plug in Path("/sys/class/net").iterdir() if plug.name in names]

    with lab(2) as made:
        names = {made.plug}
        made.hosts[0].power_off()
        assert plugs()
    until(lambda: not plugs())
    assert not [left for host in made.hosts for left in host.leftovers()]
    assert not made.folder.exists()

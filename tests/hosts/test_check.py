"""What is wrong with a host, in one line with the cure."""

import os
import re

import pytest

from runner.errors import UsageError
from runner.hosts.check import facts_of, refuse
from runner.hosts.ssh import HostName, Unusable, parse_hosts, refusal

NOW = 1_000_000.0
MUCH = str(2**30)


def well(**other: str) -> dict[str, str]:
    """What a host says of itself with which nothing is wrong, but for this."""
    return {
        "time": str(int(NOW)),
        "machine": os.uname().machine,
        "user": "1000:1000",
        "login": "me",
        "home": "/home/me",
        "free": MUCH,
        "engine": "20.10",
        "socket": "unix:///var/run/docker.sock",
        "group": "999",
        "cpus": "8",
        "security": "[]",
        **other,
    }


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"nodocker": "yes"}, "lab has no Docker; install a Docker engine there"),
        (
            {"refused": "Got permission denied while trying to connect"},
            "lab: no permission to use its Docker engine; `sudo usermod -aG docker me` there",
        ),
        (
            {"refused": "Cannot connect to the Docker daemon"},
            "lab: its Docker engine does not answer; `sudo systemctl start docker` there",
        ),
        ({"machine": "vax"}, r"lab is a machine of another architecture \(vax, here"),
        ({"free": "1024"}, "lab: only 1 MiB are free on its disk; free some"),
        ({"rootfree": "2048"}, "lab: only 2 MiB are free on its disk"),
        ({"time": str(int(NOW) - 600)}, "lab: its clock is 10 minutes off; set it"),
        ({"time": str(int(NOW) + 300)}, "lab: its clock is 5 minutes off"),
        ({"socket": "ssh://elsewhere"}, r"lab: its docker command leads elsewhere \(ssh://else"),
        ({"unwritable": "/home/me/.evalset"}, "lab: /home/me/.evalset cannot be written"),
        ({"cpus": "many"}, "lab did not say what was asked"),
    ],
)
def test_a_host_that_cannot_be_used_is_refused(other: dict[str, str], said: str) -> None:
    """Before anything is sent to it."""
    with pytest.raises(Unusable, match=said) as raised:
        refuse("lab", well(**other), between=(NOW, NOW + 1), least=2**30 // 2)
    assert raised.value.exit_code == 3
    assert raised.value.cure


def test_a_host_with_which_nothing_is_wrong_is_taken() -> None:
    """Also if its clock is some seconds off."""
    refuse("lab", well(time=str(int(NOW) + 30)), between=(NOW, NOW + 1), least=2**30 // 2)


def test_evals_of_a_rootless_engine_are_its_root() -> None:
    """Which is the user outside; the group that the socket has outside means nothing there."""
    facts = facts_of(well(security='["name=seccomp,profile=default","name=rootless"]'), ["code-1"])
    assert (facts.user, facts.group, facts.rootless) == ("0:0", "0", True)
    facts = facts_of(well(), ["code-1"])
    assert (facts.user, facts.group, facts.rootless) == ("1000:1000", "999", False)


def test_what_docker_says_is_told_without_its_hint() -> None:
    """The hint is for whoever typed the command."""
    said = (
        "docker: Error response from daemon: no.\n\nRun 'docker run --help' for more information\n"
    )
    assert str(refusal("lab", 125, said)).startswith("lab: docker: Error response from daemon: no.")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (
            "me@lab: Permission denied (publickey).",
            "lab refuses this user's keys; `ssh-copy-id lab",
        ),
        (
            "No ED25519 host key is known for lab\nHost key verification failed.",
            "the host key of lab is not known; `ssh lab` once",
        ),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "lab has another host key than before; if that is right, `ssh-keygen -R lab`",
        ),
        ("ssh: connect to host lab port 22: Connection refused", "lab cannot be reached: ssh: con"),
    ],
)
def test_why_ssh_fails_is_said_with_the_cure(said: str, means: str) -> None:
    """By what OpenSSH prints."""
    assert str(refusal("lab", 255, said)).startswith(means)


def test_hosts_are_read() -> None:
    """With commas, and one after the other."""
    found = parse_hosts(["lab1,lab2=8", "me@lab3", "local=2"])
    assert found == (
        HostName("lab1", None),
        HostName("lab2", 8),
        HostName("me@lab3", None),
        HostName("local", 2),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lab1,lab2,lab1=3", "--hosts names lab1 twice; name each host once"),
        ("lab1=0", "--hosts: `lab1=0` would run no eval; leave that host out"),
        ("lab1=two", "--hosts: `two` in `lab1=two` is no number of evals"),
        ("lab1=-1", "--hosts: `-1` in `lab1=-1` is no number of evals"),
        ("lab1=", "--hosts: `` in `lab1=` is no number of evals"),
        ("lab1,,lab2", "--hosts: `` is no host; give HOST or HOST=N"),
        ("-oProxyCommand=x", "--hosts: `-oProxyCommand=x` is no host"),
        ("a b", "--hosts: `a b` is no host"),
        ("me@-x", "--hosts: `me@-x` is no host"),
    ],
)
def test_what_is_no_host_is_refused(text: str, said: str) -> None:
    """As a mistake on the command line."""
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_hosts([text])

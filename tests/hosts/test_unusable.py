"""Hosts that cannot be used, and what a run does without them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.options import DEFAULT_IMAGE
from tests.conftest import Place
from tests.hosts.lab import Lab

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]

ROOM = ("--min-free-disk", "10m")

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.fixture
def strangers(hosts: Lab) -> Iterator[Lab]:
    """A lab whose hosts this user has never met."""
    known = hosts.folder / "known_hosts"
    text = known.read_text()
    known.write_text("")
    yield hosts
    known.write_text(text)


def test_the_other_hosts_are_used(here: Place, hosts: Lab) -> None:
    """Each that cannot be used is named in a line with what to do."""
    _, b, c = hosts.hosts
    b.lock_out()
    hosts.ssh(c, "mv /run/docker.sock /run/elsewhere.sock")
    here.registry("succeed.1", "succeed.2")
    try:
        ended = here.run("--hosts", f"{hosts.names},nowhere.invalid", *ROOM, **hosts.environ())
    finally:
        hosts.ssh(c, "mv /run/elsewhere.sock /run/docker.sock")
    assert ended.returncode == 0, ended.stderr
    for line in (
        "lab-b refuses this user's keys; `ssh-copy-id lab-b` adds one",
        "lab-c: its Docker engine does not answer; `sudo systemctl start docker` there",
        "nowhere.invalid cannot be reached: ssh: Could not resolve hostname nowhere.invalid",
    ):
        assert f"warning: left out: {line}" in ended.stdout
    assert {each.host for each in here.records()} == {"lab-a"}


def test_a_run_without_any_usable_host_does_not_start(here: Place, strangers: Lab) -> None:
    """Nothing was sent there."""
    here.registry("succeed")
    ended = here.run("--hosts", "lab-a", *ROOM, **strangers.environ())
    assert ended.returncode == 3
    assert "the host key of lab-a is not known; `ssh lab-a` once" in ended.stdout
    assert "Error: no host of --hosts can be used" in ended.stderr
    assert list((strangers.hosts[0].disk / "home").iterdir()) == []
    assert here.records() == []


def test_a_full_disk_is_noticed_before_anything_is_sent(here: Place, hosts: Lab) -> None:
    """And so is that there is too little for `--min-free-disk`."""
    here.registry("succeed")
    ended = here.run("--hosts", "lab-a", "--min-free-disk", "100g", **hosts.environ())
    assert ended.returncode == 3
    assert "lab-a: only " in ended.stdout
    assert "lower --min-free-disk" in ended.stdout


def test_a_machine_without_an_engine_runs_evals_on_others(
    here: Place, hosts: Lab, test_image: str
) -> None:
    """With its folders of code, without what in them no eval may see, and its registry."""
    a = hosts.hosts[0]
    code = here.folder / "code/mine"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text(
        "import os\nSAYS = str('.env' in os.listdir('/code/0')) + str(os.access(__file__, 2))\n"
    )
    (code.parent / ".env").write_text("HIDDEN=1")
    here.registry("imports.mine", "succeed")
    name, tag = DEFAULT_IMAGE.split(":")
    a.api.tag(test_image, name, tag)
    try:
        options = ("--code", str(code.parent), *ROOM)
        ended = here.run(
            "--hosts", "local,lab-a=1,lab-b=1", *options, **hosts.environ(), **NO_ENGINE
        )
    finally:
        a.api.remove_image(DEFAULT_IMAGE)
    assert ended.returncode == 0, ended.stderr
    assert "local: no Docker engine answers at unix:///nowhere/docker.sock" in ended.stdout
    assert here.reports()["imports.mine"]["found"] == ["/code/0/mine/__init__.py", "FalseFalse"]
    assert {each.host for each in here.records()} == {"lab-a", "lab-b"}
    stored = sorted(path.name for path in (a.disk / "home/.evalset/store").iterdir())
    assert [name.partition("-")[0] for name in stored] == ["agent", "code", "registry"]
    (kept,) = (a.disk / "home/.evalset/store").glob("code-*")
    assert [path.name for path in kept.iterdir()] == ["mine"]
    shutil.rmtree(code.parent)


def test_content_is_sent_once(here: Place, hosts: Lab) -> None:
    """By its hash, whichever run needs it; what is different is sent besides."""
    store = hosts.hosts[0].disk / "home/.evalset/store"
    other = Place(here.folder / "other", here.cache, here.image)
    other.folder.mkdir()
    here.registry("succeed.1")
    other.registry("succeed.2")
    seen = []
    for place in (here, other):
        assert place.run("--hosts", "lab-a=1", *ROOM, **hosts.environ()).returncode == 0
        seen.append({path.name: path.stat().st_ino for path in store.iterdir()})
    first, then = seen
    assert sorted(name.partition("-")[0] for name in first) == ["agent", "registry"]
    assert sorted(name.partition("-")[0] for name in then) == ["agent", "registry", "registry"]
    assert first.items() <= then.items()


# Programs of a host that what asks it about itself finds before its own, by their names.
CLOCK = """#!/bin/sh
exec /bin/date --date=-10min "$@"
"""
MACHINE = """#!/bin/sh
echo vax
"""

# What asks a host about itself, apart from `docker`.
PROGRAMS = "sh mkdir chmod date uname id df tail awk stat"


@pytest.mark.parametrize(
    ("programs", "before", "said"),
    [
        ({}, "PATH=$HOME/only", "lab-a has no Docker\n     install a Docker engine there"),
        (
            {},
            "HOME=/var/lib/other exec setpriv --reuid=nobody --regid=nogroup --clear-groups",
            (
                "lab-a: no permission to use its Docker engine\n"
                "     `sudo usermod -aG docker nobody` there"
            ),
        ),
        (
            {"date": CLOCK},
            "PATH=$HOME/fake:$PATH",
            "lab-a: its clock is 10 minutes off\n     set it, best with NTP",
        ),
        (
            {"uname": MACHINE},
            "PATH=$HOME/fake:$PATH",
            f"lab-a is a machine of another architecture (vax, here {os.uname().machine})\n",
        ),
    ],
    ids=["no Docker", "no right", "clock", "architecture"],
)
def test_what_a_host_says_of_itself_is_understood(
    here: Place, hosts: Lab, programs: dict[str, str], before: str, said: str
) -> None:
    """Whatever it has been made to say by what is really wrong with it."""
    a = hosts.hosts[0]
    (a.disk / "home/only").mkdir()
    for name in PROGRAMS.split():
        (a.disk / "home/only" / name).symlink_to(str(shutil.which(name)))
    (a.disk / "home/fake").mkdir()
    for name, text in programs.items():
        (a.disk / "home/fake" / name).write_text(text)
        (a.disk / "home/fake" / name).chmod(0o755)
    (a.disk / "lib/other").mkdir()
    (a.disk / "lib/other").chmod(0o777)
    asked = here.ask("doctor", "--hosts", "lab-a", *ROOM, **hosts.environ())
    assert "ok   host lab-a: " in asked.stdout
    a.let_in_with(before)
    asked = here.ask("doctor", "--hosts", "lab-a", *ROOM, **hosts.environ())
    assert asked.returncode == 3
    assert f"FAIL host lab-a: {said}" in asked.stdout


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        (["--hosts", "a,b,a"], {}, "--hosts names a twice; name each host once"),
        (["--hosts", "a=0"], {}, "--hosts: `a=0` would run no eval; leave that host out"),
        (
            ["--hosts", "a", "--no-gateway"],
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://localhost:1/v1"},
            "OPENAI_BASE_URL points at localhost, which on a host of --hosts is that host itself",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    here: Place, options: list[str], variables: dict[str, str], said: str
) -> None:
    """Before any host is asked for anything."""
    here.registry("succeed")
    ended = here.run(*options, **variables)
    assert ended.returncode == 2
    assert f"Error: {said}" in ended.stderr


def test_hosts_can_be_named_in_the_configuration_file(here: Place) -> None:
    """As a list; the same is refused as on the command line."""
    here.registry("succeed")
    Path(here.folder, "evalset.toml").write_text('hosts = ["a=0", "b"]\n')
    ended = here.run()
    assert ended.returncode == 2
    assert "--hosts: `a=0` would run no eval" in ended.stderr

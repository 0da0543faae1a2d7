"""Images, code and data that hosts get, and agents of another version."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import runner
from runner.hosts.messages import PROTOCOL
from runner.run.host_leftovers import ANSWER
from tests.conftest import Place, engine_api, remove_containers, until
from tests.hosts.lab import Lab, LabHost, evals, let_go, nothing_left, waiting
from tests.image_registry import serving

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]

# The hosts' disks are small.
ROOM = ("--min-free-disk", "10m")


def images(host: LabHost) -> set[str]:
    """Ids of the images of a host."""
    return {each["Id"] for each in host.api.images()}


@pytest.fixture
def bare(hosts: Lab, local_base: str) -> Iterator[LabHost]:
    """A host without the image that agents run in."""
    host = hosts.hosts[2]
    before = images(host)
    host.api.remove_image(local_base, force=True)
    assert len(images(host)) == len(before) - 1
    yield host
    for image in images(host) - before:  # of a test that failed
        host.api.remove_image(image, force=True)
    host.load(local_base)
    assert images(host) == before


@pytest.fixture
def unknown(test_image: str, tmp_path: Path) -> Iterator[str]:
    """An image like the tests', which no host has, of a registry that has gone."""
    api = engine_api()
    with serving(tmp_path) as registry:
        name = f"{registry}/me/evals"
        made = api.create_container(test_image, "true")["Id"]
        api.commit(made, name, "1", changes=[f"LABEL made.for={tmp_path}"])
        remove_containers([made])
        api.push(name, "1")
    yield f"{name}:1"
    api.remove_image(f"{name}:1")


def percents(image: str, said: str) -> list[int]:
    """How far the lines say that the sending of an image is."""
    return [int(it) for it in re.findall(f"lab-c gets the image {re.escape(image)}: (.+) %", said)]


def test_images_that_a_host_cannot_pull_are_sent_and_removed(
    here: Place, hosts: Lab, bare: LabHost, unknown: str, local_base: str
) -> None:
    """With lines that say why and how far it is, and one for each large folder."""
    place = msgspec.structs.replace(here, image=unknown)
    folder = place.registry("succeed")
    (folder / "data").mkdir()
    with (folder / "data/zeros").open("wb") as file:
        file.truncate(101 << 20)
    before = images(bare)
    ended = place.run("--hosts", "lab-c", *ROOM, **hosts.environ())
    said = ended.stdout
    assert ended.returncode == 0, said + ended.stderr
    assert f"lab-c pulls the image {unknown}\n" in said
    why = f"lab-c cannot pull the image {unknown}, and gets it from here: "
    assert re.search(f"{re.escape(why)}.*connection refused", said)
    for image in (unknown, local_base):
        far = percents(image, said)
        assert far == sorted(far)
        assert 25 <= far[0] < 50
        assert far[-1] == 100
        assert len(far) >= 3
    assert f"lab-c gets {folder} (101 MiB)\n" in said
    assert len(images(bare)) == len(before) + 2
    again = place.run("--hosts", "lab-c", "--no-resume", *ROOM, **hosts.environ())
    assert again.returncode == 0, again.stderr
    assert "lab-c gets" not in again.stdout
    cleaned = place.ask("clean", "--hosts", "lab-c", **hosts.environ())
    assert "nothing of evalset is left on lab-c" in cleaned.stdout
    assert images(bare) == before
    assert nothing_left(bare) == []


@pytest.fixture
def another(tmp_path: Path) -> dict[str, str]:
    """Variables with which Python imports another version of the package."""
    code = tmp_path / "another/runner"
    shutil.copytree(
        Path(runner.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__")
    )
    messages = code / "hosts/messages.py"
    text = messages.read_text()
    now, then = f"PROTOCOL = {PROTOCOL}\n", f"PROTOCOL = {PROTOCOL + 1}\n"
    assert text.count(now) == 1
    messages.write_text(text.replace(now, then))
    return {"PYTHONPATH": str(code.parent)}


def test_a_run_replaces_an_agent_of_another_version(
    here: Place, hosts: Lab, another: dict[str, str]
) -> None:
    """It takes over what that one has; `clean` says at once what can be done."""
    a = hosts.hosts[0]
    here.registry("wait.1", "wait.2")
    chosen = ("--hosts", "lab-a=2", *ROOM)
    with here.running(*chosen, **hosts.environ()) as run:
        waiting(a, 2)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    (before,) = a.agents()
    began = time.monotonic()
    cleaned = subprocess.run(
        here.line("--hosts", "lab-a", command="clean"),
        capture_output=True,
        text=True,
        check=False,
        cwd=here.folder,
        env=here.environ(**hosts.environ(), **another),
    )
    assert time.monotonic() - began < ANSWER  # of agents that do not answer
    assert cleaned.returncode == 3
    assert cleaned.stderr == (
        "left alone: lab-a: the agent there is of another version of evalset "
        f"(protocol {PROTOCOL}, here {PROTOCOL + 1}); use that version, or let `evalset run` "
        "replace the agent\n"
    )
    assert sorted(evals(a, every=False)) == ["wait.1", "wait.2"]
    with here.running(*chosen, **hosts.environ(), **another) as run:
        until(lambda: a.agents() not in ([], [before]), seconds=60)
        let_go(waiting(a, 2))
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert "continues 2 evals" in printed
    assert len(here.records()) == 2


def test_a_host_pulls_an_image_that_a_registry_has(
    here: Place, hosts: Lab, unknown: str, tmp_path: Path
) -> None:
    """Of exactly this content, and nothing is sent over ssh."""
    a = hosts.hosts[0]
    into = ["nsenter", f"--net={a.network}"]
    port = int(unknown.partition("/")[0].partition(":")[2])
    place = msgspec.structs.replace(here, image=unknown)
    place.registry("succeed")
    with serving(tmp_path, port=port, inside=into):
        ended = place.run("--hosts", "lab-a", *ROOM, **hosts.environ())
        asked = (tmp_path / "log").read_text()
    (digest,) = engine_api().inspect_image(unknown)["RepoDigests"]  # type: ignore[no-untyped-call] # its stubs lack it
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "gets the image" not in ended.stdout
    assert f"GET /v2/me/evals/manifests/{digest.partition('@')[2]}" in asked
    assert digest in a.api.inspect_image(digest)["RepoDigests"]  # type: ignore[no-untyped-call] # as above
    a.api.remove_image(digest)

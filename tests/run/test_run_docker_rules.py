import json

import pytest

from runner.engine.labels import Label
from tests.conftest import Place, engine_api

pytestmark = pytest.mark.docker


def test_rules_of_a_registry_reach_the_containers(place: Place) -> None:
    """`containers/*.yaml` gives evals of a pattern an image, limits, network and variables."""
    other = "evalset/test:other"
    engine_api().tag(place.image, "evalset/test", "other")
    rule = {
        "image": other,
        "memory": "100m",
        "pids_limit": 33,
        "cpus": 0.5,
        "network": "bridge",
        "env": ["MINE"],
    }
    place.registry("wait.a", "wait.b", containers={"*.b": rule})
    try:
        with place.running("--jobs", "2", MINE="mine") as run:
            place.until_running(2)
            about = {}
            for container in place.containers():
                found = engine_api().inspect_container(container)
                about[json.loads(found["Config"]["Labels"][Label.COMMAND])[2]] = found
            place.let_go()
            assert run.wait(20) == 0
    finally:
        engine_api().remove_image(other)
    plain, ruled = about["wait.a"]["HostConfig"], about["wait.b"]["HostConfig"]
    assert (plain["Memory"], plain["NetworkMode"]) == (64 << 20, "none")
    assert (ruled["Memory"], ruled["NetworkMode"]) == (100 << 20, "bridge")
    assert (ruled["PidsLimit"], ruled["NanoCpus"]) == (33, 500_000_000)
    assert "MINE=mine" in about["wait.b"]["Config"]["Env"]
    assert "MINE=mine" not in about["wait.a"]["Config"]["Env"]


def test_a_rules_variable_that_is_not_set_is_said(place: Place) -> None:
    """A name in `containers/*.yaml` without a value on the host: one line, exit 2, no container."""
    place.registry("succeed.a", containers={"*": {"env": ["NOT_SET_HERE"]}})
    ended = place.run()
    assert ended.returncode == 2
    assert "NOT_SET_HERE" in ended.stderr
    assert place.records() == []


def test_variables_are_handed_in_by_name_and_by_file(place: Place) -> None:
    """`-e NAME` takes the host's value, `--env-file` a file's; no value is in labels or records."""
    place.registry("look.v0")
    (place.folder / "env").write_text("# mine\nBY_FILE=a b=c\nTAKEN\n")
    ended = place.run(
        "-e", "BY_NAME", "--env-file", "env", BY_NAME="name-1", TAKEN="taken-2", OTHER="o"
    )
    assert ended.returncode == 0, ended.stderr
    environment = place.reports()["look.v0"]["environment"]
    assert isinstance(environment, dict)
    assert environment["BY_NAME"] == "name-1"
    assert environment["BY_FILE"] == "a b=c"
    assert environment["TAKEN"] == "taken-2"
    assert "OTHER" not in environment
    assert all(value not in place.layout.run.read_text() for value in ("name-1", "taken-2"))

import json

import pytest

from tests.conftest import Place
from tests.run.pinned import pinned, refused

pytestmark = pytest.mark.docker

RULE = {"succeed.*": {"memory": "100m", "network": "bridge", "timeout": "40s"}}


def test_what_a_rule_gives_an_eval_is_what_counts_for_it(place: Place) -> None:
    """The same by an option stops nobody, nor does more; the numbers are the eval's own."""
    place.registry("succeed.a", "fail.1", containers=RULE)
    place.run()
    same = place.run("--memory", "100m", "--network", "bridge", "--timeout", "40s")
    more = place.run("--memory", "128m", "--timeout", "50s")
    assert [(ended.returncode, ended.stderr) for ended in (same, more)] == [(1, "")] * 2
    line = refused(place, "--memory", "80m", "--timeout", "30s", "--network", "none")
    assert (
        "conditions: --network: bridge before, none now; --memory: 100m before, 80m now; "
        "--timeout: 40s before, 30s now; `--repin`"
    ) in line
    place.registry("succeed.a", "fail.1")
    line = refused(place)
    assert ": --network: bridge before, none now; --memory: 100m before, 64m now; `" in line


def test_a_rule_for_one_of_several_names_it(place: Place) -> None:
    """The registry's content has not changed with it."""
    place.registry("succeed.a", "succeed.b")
    place.run()
    place.registry("succeed.a", "succeed.b", containers={"succeed.b": {"network": "bridge"}})
    assert "conditions: --network of succeed.b: none before, bridge now; `" in refused(place)


def test_an_eval_stays_at_what_it_got(place: Place) -> None:
    """Who gave the rest more may go back for what was finished with less."""
    place.registry("succeed.a", "fail.1")
    place.run()
    place.run(EVALSET_MEMORY="128m")
    assert list((pinned(place).settings or {}).values()) == [{"memory": 64 * 2**20}]
    assert place.run().returncode == 1
    assert pinned(place).settings == {}


def test_evals_of_another_selection_are_held_to_the_same(place: Place) -> None:
    """Results of one eval set must not come from two networks."""
    place.registry("succeed.a", "succeed.b")
    place.run("--select", "succeed.a")
    line = refused(place, "--select", "succeed.b", EVALSET_NETWORK="bridge")
    assert "conditions: --network: none before, bridge now" in line
    assert place.run("--select", "succeed.b", EVALSET_MEMORY="128m").returncode == 0
    assert "conditions: --memory of succeed.b: 128m before, 64m now; `" in refused(place)
    assert place.run("--select", "succeed.b", EVALSET_MEMORY="128m").returncode == 0


def test_a_run_with_other_arguments_between_changes_nothing(place: Place) -> None:
    """What was finished with these stays pinned, whatever that run's own settings are."""
    place.registry("succeed.a")
    place.run()
    assert place.run("--seed", "1", EVALSET_NETWORK="bridge", EVALSET_MEMORY="32m").returncode == 0
    assert place.run().returncode == 0
    assert "--network: none before, bridge now" in refused(place, EVALSET_NETWORK="bridge")


def test_a_lowered_limit_is_refused_and_a_raised_one_is_not(place: Place) -> None:
    """A user who ran out of memory or time is told to give more."""
    place.registry("succeed.a", "fail.1")
    place.run("--timeout", "60s")
    line = refused(place, "--timeout", "30s", EVALSET_MEMORY="32m")
    assert "--memory: 64m before, 32m now; --timeout: 1m before, 30s now; `--repin`" in line
    raised = place.run("--timeout", "90s", "--cpus", "1", EVALSET_MEMORY="128m")
    assert (raised.returncode, raised.stderr) == (1, "")


def test_the_network_counts(place: Place) -> None:
    """An eval that reaches others may answer otherwise."""
    place.registry("succeed.a", "fail.1")
    place.run()
    assert "--network: none before, bridge now" in refused(place, EVALSET_NETWORK="bridge")


def test_a_file_of_an_earlier_version_stops_nothing(place: Place) -> None:
    """What it does not say cannot differ."""
    place.registry("succeed.a", "fail.1")
    place.run()
    old = json.loads(place.layout.run.read_bytes())
    for field in ("network", "gpus", "registry", "settings"):
        del old[field]
    place.layout.run.write_text(json.dumps(old))
    assert place.run(EVALSET_NETWORK="bridge").returncode == 1
    assert pinned(place).network == "bridge"

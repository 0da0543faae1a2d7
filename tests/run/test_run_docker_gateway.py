"""Runs whose evals ask a provider that bills, through the gateway, from containers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.gateway.client import end_process
from runner.gateway.providers import WORTHLESS
from tests.command_lines import watched
from tests.conftest import Place, engine_api, until
from tests.forked import PROGRAMS
from tests.provider import KEY, Provider, provider

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def one_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for all tests of this file."""
    with provider(tmp_path_factory.mktemp("provider"), models=("m",)) as found:
        yield found


def with_key(stub: Provider) -> dict[str, str]:
    """The variables of a user who has a key."""
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{stub.url}/v1"}


def holding(folder: Path, *secrets: str) -> list[str]:
    """Files in which one of these stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        str(path)
        for path in files
        if any(secret.encode() in path.read_bytes() for secret in secrets)
    ]


def told(place: Place, words: str) -> bool:
    """Whether an eval that runs has printed this."""
    api = engine_api()
    return any(words.encode() in api.logs(one) for one in place.containers(every=False))


def billed(stub: Provider) -> list[int]:
    """Numbers of the bills."""
    return [each.bill for each in stub.bills()]


def texts(stub: Provider) -> list[str]:
    """What the answers say that were billed."""
    return [f"bill {number}" for number in billed(stub)]


def test_no_key_is_in_a_container(place: Place, stub: Provider) -> None:
    """Nor in what the engine knows of it, on a command line, or in a file that the run leaves."""
    place.registry("ask.3.wait")
    seen: set[str] = set()
    with watched(seen), place.running(**with_key(stub)) as run:
        place.until_running(1)
        (container,) = place.containers()
        about = engine_api().inspect_container(container)
        known = json.dumps([about, engine_api().top(container)])
        assert holding(place.folder, KEY) == []
        place.let_go()
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert place.reports()["ask.3.wait"]["answers"] == texts(stub)
    assert f"OPENAI_API_KEY={WORTHLESS}" in about["Config"]["Env"]
    assert about["HostConfig"]["NetworkMode"] == "none"
    address = stub.url.removeprefix("http://")
    assert not [text for text in (known, printed) if KEY in text or address in text]
    assert any("-m runner.gateway" in line for line in seen)
    assert [line for line in seen if KEY in line] == []
    assert holding(place.folder, KEY) == []


def test_each_of_several_models_is_asked_for_first(place: Place, stub: Provider) -> None:
    """They stand in one argument, and the one that is not there is named; `dummy` needs none."""
    place.registry("succeed")
    line = [each if each != "m" else "m,dummy,m" for each in place.line()]
    env = place.environ(**with_key(stub))
    one = subprocess.run(line, capture_output=True, text=True, check=False, env=env)
    assert one.returncode == 0, one.stderr
    line = [each if each != "m,dummy,m" else "m,gone" for each in line]
    other = subprocess.run(line, capture_output=True, text=True, check=False, env=env)
    assert other.returncode == 3
    assert "the provider openai has no model `gone`, or not for this key" in other.stderr


def test_without_the_gateway_the_key_is_variables_for_containers(
    place: Place, stub: Provider
) -> None:
    """As `--no-gateway` says."""
    place.registry("wait")
    with place.running("--no-gateway", **with_key(stub)) as run:
        place.until_running(1)
        (container,) = place.containers()
        about = engine_api().inspect_container(container)
        place.let_go()
        assert run.wait(60) == 0
    assert f"OPENAI_API_KEY={KEY}" in about["Config"]["Env"]
    assert not (place.progress / ".gateway").exists()


def test_an_eval_sees_no_socket_but_its_own(place: Place, stub: Provider) -> None:
    """While another asks; what is mounted for it cannot be changed, nor is a secret in sight."""
    place.registry("spy", "ask.3.wait")
    with place.running("--jobs", "2", **with_key(stub)) as run:
        place.until_running(2)
        place.let_go()
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    facts = place.reports()["spy"]
    assert facts["sockets"] == ["/evalset/api.sock"]
    assert facts["changed"] == []
    assert sorted(facts["around"]) == ["api.sock", "forward.py"]  # type: ignore[call-overload]
    assert facts["named"] == []
    assert KEY not in json.dumps(facts)
    assert place.reports()["ask.3.wait"]["answers"] == texts(stub)


def test_a_killed_container_costs_nothing_twice(place: Place, stub: Provider) -> None:
    """The next attempt is given what was paid for, what was under way then included."""
    stub.behave(delay=0.2)
    place.registry("ask.20")
    with place.running("--retries", "0", **with_key(stub)) as run:
        until(lambda: told(place, "answered 7"))
        (container,) = place.containers(every=False)
        engine_api().kill(container)
        run.communicate(timeout=60)
    assert 7 <= len(billed(stub)) <= 9
    ended = place.run("--retries", "0", **with_key(stub))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(billed(stub)) == 20
    assert place.reports()["ask.20"]["answers"] == texts(stub)
    spending = place.records()[-1].spending
    assert spending
    assert spending.requests == 20
    assert 7 <= spending.replayed <= 9


@pytest.mark.parametrize("also", [False, True], ids=["runner", "runner and container"])
def test_a_killed_runner_costs_nothing_twice(place: Place, stub: Provider, *, also: bool) -> None:
    """Gateway and container continue, and the next run adopts both, or the gateway alone."""
    stub.behave(delay=0.2)
    place.registry("ask.20")
    with place.running(**with_key(stub)) as run:
        until(lambda: told(place, "answered 5"))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
    if also:
        for container in place.containers(every=False):
            engine_api().kill(container)
    ended = place.run(**with_key(stub))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(billed(stub)) == 20
    assert place.reports()["ask.20"]["answers"] == texts(stub)


def test_a_killed_gateway_costs_at_most_what_was_under_way(place: Place, stub: Provider) -> None:
    """The eval waits and is answered; it asks one after the other, so that is one request."""
    stub.behave(delay=0.2)
    place.registry("ask.20")
    with place.running(**with_key(stub)) as run:
        until(lambda: told(place, "answered 5"))
        (folder,) = place.progress.glob(".gateway/*")
        assert end_process(folder)
        printed, _ = run.communicate(timeout=90)
    assert run.returncode == 0, printed
    assert 20 <= len(billed(stub)) <= 21
    answers = place.reports()["ask.20"]["answers"]
    assert isinstance(answers, list)
    assert len(set(answers)) == 20
    assert set(answers) <= set(texts(stub))


def test_a_finished_run_leaves_nothing_of_the_gateway(place: Place, stub: Provider) -> None:
    """It ends by itself once all is on record, and what is on record stays."""
    place.registry("ask.3")
    assert place.run(**with_key(stub)).returncode == 0
    until(lambda: not list(place.progress.glob(".gateway/*")))
    (answers,) = place.layout.answers.iterdir()
    assert answers.read_bytes().count(b'"kind":"answer"') == 3


def test_the_drop_in_has_the_same_protection(place: Place, stub: Provider) -> None:
    """Without a word more on its command line."""
    registry = place.registry("ask.3.wait")
    line = [sys.executable, *PROGRAMS["oaievalset"], "m", "s", "--registry_path", str(registry)]
    variables = {"EVALSET_PROGRESS_DIR": str(place.progress), **with_key(stub)}
    with subprocess.Popen(
        line,
        cwd=place.folder,
        env=place.environ(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        place.until_running(1)
        (container,) = place.containers()
        about = engine_api().inspect_container(container)
        place.let_go()
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert KEY not in json.dumps(about)
    assert place.reports()["ask.3.wait"]["answers"] == texts(stub)


def test_two_evals_share_the_hosts_network(place: Place, stub: Provider) -> None:
    """Each with an address of its own, at which it asks."""
    place.registry("ask.3.a", "ask.3.b")
    ended = place.run("--network", "host", "--jobs", "2", **with_key(stub))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(billed(stub)) == 6


def test_what_a_killed_run_left_of_the_gateway_can_be_removed(place: Place, stub: Provider) -> None:
    """`evalset clean` ends its process, and removes its folder."""
    place.registry("ask.1.wait")
    with place.running(**with_key(stub)) as run:
        place.until_running(1)
        run.kill()
    (pid,) = (path.read_text() for path in place.progress.glob(".gateway/*/pid"))
    ended = place.ask("clean")
    assert ended.returncode == 0, ended
    until(lambda: not Path("/proc", pid).exists())
    assert not (place.progress / ".gateway").exists()

"""Runs on hosts with engines of their own, over a real ssh."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.data.cache import DataCache, keys_of
from runner.data.lock import DataLock, look_through
from runner.engine.labels import Label
from runner.hosts.ledger import read_ledger
from runner.model import Result
from runner.registry.entries import read_folder
from tests.conftest import Place, engine_api, until
from tests.hosts.lab import Lab, LabHost, agents, evals, let_go, waiting
from tests.provider import KEY, Provider, provider

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]

# The hosts' disks are small.
ROOM = ("--min-free-disk", "10m")


@pytest.fixture(scope="module")
def one_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider that has the model of the tests' runs."""
    with provider(tmp_path_factory.mktemp("provider"), models=("m",)) as found:
        yield found


def test_evals_run_on_all_hosts_and_on_this_one(here: Place, hosts: Lab) -> None:
    """Each within its number; their logs come here, and nothing of an eval stays there."""
    names = [f"sleep.1.{number}" for number in range(8)]
    here.registry(*names, "fail.3", "flood")
    chosen = "lab-a=2,lab-b=1,local=1"
    ended = here.run("--hosts", chosen, "--no-exit-on-error", *ROOM, **hosts.environ())
    assert ended.returncode == 1, ended.stdout + ended.stderr
    records = here.records()
    assert sorted(each.eval for each in records) == sorted([*names, "fail.3", "flood"])
    assert {each.host for each in records} == {"lab-a", "lab-b", "local"}
    assert [each.eval for each in records if each.result is Result.FAILURE] == ["fail.3"]
    for each in records:
        assert each.console_log
        assert (here.progress / each.console_log).exists()
        assert all((here.progress / log).stat().st_size for log in each.logs)
    (flood,) = [each for each in records if each.eval == "flood"]
    console = (here.progress / str(flood.console_log)).read_bytes()
    assert console.endswith(b"the end\n")
    assert 9 << 20 < len(console) < 21 << 20
    for host in hosts.hosts[:2]:
        assert evals(host) == []
        assert list((host.disk / "home/.evalset/spool").glob("*/.attempts/*")) == []


def test_a_killed_run_is_continued_from_where_its_folder_was_moved_to(
    here: Place, hosts: Lab
) -> None:
    """Evals keep running without it; the next run takes over them, and those that have ended."""
    a, b, _ = hosts.hosts
    here.registry("wait.1", "wait.2", "wait.3", "wait.4")
    chosen = ("--hosts", "lab-a=2,lab-b=2", *ROOM)
    with here.running(*chosen, **hosts.environ()) as run:
        folders = [*waiting(a, 2), *waiting(b, 2)]
        run.send_signal(signal.SIGKILL)
        run.communicate()
    before = {each["Id"] for host in (a, b) for each in host.api.containers()}
    let_go(folders[:1])
    until(lambda: len(evals(a, every=False)) == 1)
    moved = here.progress.rename(here.folder / "elsewhere")
    other = Place(here.folder / "other", here.cache, here.image)
    other.folder.mkdir()
    moved.rename(other.progress)
    other.registry("wait.1", "wait.2", "wait.3", "wait.4")
    with other.running(*chosen, **hosts.environ()) as run:
        until(lambda: len(other.finished()) == 1, seconds=30)
        assert {each["Id"] for host in (a, b) for each in host.api.containers()} <= before
        let_go(folders[1:])
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert "continues 4 evals" in printed
    assert sorted(other.finished()) == ["wait.1", "wait.2", "wait.3", "wait.4"]
    assert len(other.records()) == 4
    assert evals(a) == evals(b) == []
    assert other.leftovers() == []


def test_a_killed_run_is_continued_on_this_machine(here: Place) -> None:
    """Its agent ends with it, and the next one takes its containers over, also if it was moved."""
    here.registry("wait.1", "wait.2")

    def folders() -> list[Path]:
        label = f"{Label.PROGRESS}=evalset:{read_ledger(here.layout).id}"
        listed = engine_api().containers(filters={"label": label})
        said = [engine_api().logs(each["Id"]) for each in listed]
        found = sorted((here.progress / ".hosts").glob("*/.attempts/*"))
        return found if said.count(b"waiting\n") == 2 else []

    with here.running("--hosts", "local=2") as run:
        until(folders)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    other = Place(here.folder / "other", here.cache, here.image)
    other.folder.mkdir()
    here.progress.rename(other.progress)
    other.registry("wait.1", "wait.2")
    with other.running("--hosts", "local=2") as run:
        let_go(sorted((other.progress / ".hosts").glob("*/.attempts/*")))
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert "continues 2 evals" in printed
    assert len(other.records()) == 2
    assert all(each.logs for each in other.records())
    assert other.leftovers() == []
    assert not (other.progress / ".hosts").exists()


def test_evals_of_a_host_that_stays_away_run_elsewhere_and_count_once(
    here: Place, watchful: Place, hosts: Lab
) -> None:
    """What the host has done when it is back is refused, and ended."""
    a, b, _ = hosts.hosts
    here.registry("wait.1", "wait.2", "wait.3")
    chosen = ("--hosts", "lab-a=1,lab-b=2", "--engine-wait", "1s", "--retries", "0", *ROOM)
    with watchful.running(*chosen, **hosts.environ()) as run:
        away = waiting(a, 1)
        first = waiting(b, 2)
        hosts.cut(a)
        until(here.records, seconds=60)
        lost = [each for each in here.records() if each.result is Result.LOST]
        assert [each.host for each in lost] == ["lab-a"]
        assert "its host lab-a was away for more than 1 s" in lost[0].reason
        let_go([*first, *away])
        until(lambda: len(here.finished()) == 2)
        (there,) = until(lambda: waiting(b, 1))
        hosts.join(a)
        until(lambda: evals(a) == [], seconds=60)
        let_go([there])
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert "lab-a is away" in printed
    assert sorted(here.finished()) == ["wait.1", "wait.2", "wait.3"]
    assert len(here.records()) == 4
    assert {each.host for each in here.records() if each.result is Result.SUCCESS} == {"lab-b"}


def test_an_agent_that_is_killed_starts_no_eval_again(here: Place, hosts: Lab) -> None:
    """Its engine starts it again, and it takes its containers over."""
    a = hosts.hosts[0]
    here.registry("wait.1", "wait.2")
    with here.running("--hosts", "lab-a=2", *ROOM, **hosts.environ()) as run:
        folders = waiting(a, 2)
        before = sorted(each["Id"] for each in a.api.containers())
        a.signal(agents(a)[0], signal.SIGKILL)
        until(lambda: sorted(each["Id"] for each in a.api.containers()) == before)
        let_go(folders)
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert len(here.records()) == 2
    assert evals(a) == []


def test_an_agent_that_restarts_with_a_full_disk_keeps_its_containers(
    here: Place, hosts: Lab
) -> None:
    """It takes its containers over once there is room."""
    a = hosts.hosts[0]
    here.registry("wait.1", "wait.2")
    with here.running("--hosts", "lab-a=2", *ROOM, **hosts.environ()) as run:
        folders = waiting(a, 2)
        before = sorted(each["Id"] for each in a.api.containers())
        (agent,) = agents(a)
        started = restarts(a, agent)
        a.fill()
        a.signal(agent, signal.SIGKILL)
        until(lambda: restarts(a, agent) > started + 1, seconds=60)
        a.empty()
        until(lambda: sorted(each["Id"] for each in a.api.containers()) == before)
        let_go(folders)
        printed, _ = run.communicate(timeout=120)
    assert run.returncode == 0, printed
    assert [each.result for each in here.records()] == [Result.SUCCESS] * 2
    assert evals(a) == []


def restarts(host: LabHost, container: str) -> int:
    """How often the engine of a host has started a container again."""
    return int(host.api.inspect_container(container)["RestartCount"])


def test_evals_on_a_host_ask_the_gateway_here(here: Place, hosts: Lab, stub: Provider) -> None:
    """No key and no address of a provider gets there, and a link that breaks costs nothing."""
    stub.behave(delay=0.1)
    a = hosts.hosts[0]
    here.registry("ask.30", "ask.10.wait")
    key = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{stub.url}/v1"}
    with here.running("--hosts", "lab-a=2", *ROOM, **hosts.environ(), **key) as run:
        folders = waiting(a, 1)
        here_says = subprocess.run(
            ["grep", "-rlF", "-e", KEY, "-e", stub.url.partition("//")[2], str(a.disk)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert here_says.stdout == ""
        known = str([a.api.inspect_container(each["Id"]) for each in a.api.containers(all=True)])
        assert KEY not in known
        a.signal(agents(a)[0], signal.SIGKILL)
        let_go(folders)
        printed, _ = run.communicate(timeout=90)
    assert run.returncode == 0, printed
    reports = here.reports()
    answers = reports["ask.30"]["answers"]
    assert isinstance(answers, list)
    assert len(answers) == 30
    assert 40 <= len(stub.bills()) <= 41
    spending = {each.eval: each.spending for each in here.records()}
    assert spending["ask.30"]


def test_an_eval_that_moves_to_another_host_pays_for_no_answer_twice(
    here: Place, watchful: Place, hosts: Lab, stub: Provider
) -> None:
    """What was answered, or was under way, is given to it there."""
    stub.behave(delay=0.1)
    here.registry("ask.40")
    key = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{stub.url}/v1"}
    chosen = ("--hosts", "lab-a=1,lab-b=1", "--engine-wait", "1s", *ROOM)
    with watchful.running(*chosen, **hosts.environ(), **key) as run:
        until(lambda: len(stub.bills()) >= 10, seconds=60)
        (first,) = [host for host in hosts.hosts if evals(host)]
        hosts.cut(first)
        printed, _ = run.communicate(timeout=120)
    assert run.returncode == 0, printed
    lost, kept = here.records()
    assert (lost.result, kept.result) == (Result.LOST, Result.SUCCESS)
    assert {lost.host, kept.host} == {"lab-a", "lab-b"}
    answers = here.reports()["ask.40"]["answers"]
    assert isinstance(answers, list)
    assert len(answers) == len(stub.bills()) == 40
    assert kept.spending
    assert kept.spending.replayed >= 10
    hosts.join(first)


def test_data_and_rules_hold_on_a_host(here: Place, hosts: Lab) -> None:
    """Fetched data are mounted there as here, and each eval gets its own settings."""
    rule = {"wait.long": {"timeout": "2s"}}
    folder = here.registry("look", "wait.long", containers=rule)
    own = {"/registry/0": tuple(read_folder(folder))}
    (key,) = keys_of(["look"], own).values()
    fetched = here.folder / "fetched/hf/datasets/one"
    fetched.mkdir(parents=True)
    (fetched / "file").write_text("text")
    (fetched / "link").symlink_to("file")
    files = look_through(here.folder / "fetched", "look")
    lock = DataLock(eval="look", key=key, sha256="0" * 64, files=files)
    DataCache(here.cache / "evalset").put(lock, here.folder / "fetched")
    try:
        ended = here.run("--hosts", "lab-a=2", *ROOM, "--no-exit-on-error", **hosts.environ())
    finally:
        shutil.rmtree(here.cache / "evalset/data")
    assert ended.returncode == 1, ended.stderr
    seen = here.reports()["look"]
    assert ".evalset-data" in str(seen["tmp"])
    environment = seen["environment"]
    assert isinstance(environment, dict)
    assert environment["PYTHONPATH"] == "/evalset-python"
    (late,) = [each for each in here.records() if each.eval == "wait.long"]
    assert "ran longer than its time limit of 2 s" in late.reason
    (kept,) = (hosts.hosts[0].disk / "home/.evalset/store").glob("data-*")
    assert (kept / "hf/datasets/one/link").read_text() == "text"

import signal
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from tests.commands.conftest import contents
from tests.conftest import engine_api, until
from tests.data.conftest import Desk, lines, words
from tests.hub import Hub

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SAMPLES = [{"input": [{"role": "user", "content": "1+1?"}], "ideal": "2"}] * 3


def test_a_hub_that_is_away_ends_the_fetch_with_one_line(desk: Desk) -> None:
    """It says which host, for which eval, and what to check; nothing is called fetched."""
    away = desk.hub.rpartition(":")[0]
    desk.registry(a=desk.loading(tokens=f"{away}:1/two.tiktoken"), b=desk.match("/samples.jsonl"))

    fetched = desk.fetch("--jobs", "1", "--select", "a.*")

    assert fetched.returncode == 3
    assert fetched.stderr.count("\n") == 1
    host = away.removeprefix("http://")
    assert f"Error: {host} cannot be reached for the data of a.dev.v0: " in fetched.stderr
    assert "check the network, proxies and HF_ENDPOINT" in fetched.stderr
    assert not desk.locks()


def test_what_nltk_cannot_get_is_no_success(desk: Desk, hub: Hub) -> None:
    """The eval is told nothing by nltk and begins; the fetch sees that a corpus is missing."""
    index = words()["/index.xml"].replace(b"words", b"others")
    hub.files["/index.xml"] = index
    desk.registry(a=desk.loading(corpus=f"{hub.address}/index.xml"))

    fetched = desk.fetch()

    assert fetched.returncode == 1
    assert "a.dev.v0 could not get nltk's words" in fetched.stdout
    assert not desk.locks()


def test_one_eval_that_fails_leaves_the_others_fetched(desk: Desk, hub: Hub) -> None:
    """Its last line says why, and the next fetch is for it alone."""
    hub.files["/samples.jsonl"] = lines(*SAMPLES)
    desk.registry(a=desk.match("/samples.jsonl"), b=desk.match("/nowhere.jsonl"))

    fetched = desk.fetch()

    assert fetched.returncode == 1
    said = f"error: b.dev.v0 could not get {hub.address}/nowhere.jsonl: HTTP Error 404: Not Found"
    assert said in fetched.stdout
    assert "1 eval of 2 with data" in fetched.stdout
    assert "1 failed" in fetched.stdout
    hub.files["/nowhere.jsonl"] = lines(*SAMPLES)
    asked = len(hub.log)
    again = desk.fetch()
    assert again.returncode == 0
    assert {line.split()[1] for line in hub.log[asked:]} == {"/nowhere.jsonl"}


def test_an_eval_that_cannot_begin_is_quoted(desk: Desk) -> None:
    """The last line of what it printed says why."""
    desk.registry(a={"class": "nowhere:Eval"})

    fetched = desk.fetch()

    assert fetched.returncode == 1
    said = "error: a.dev.v0 ended with status 1 while its data were fetched: ModuleNotFoundError: "
    assert said in fetched.stdout


def test_a_fetch_that_was_killed_continues_where_it_was(desk: Desk, hub: Hub) -> None:
    """Whole data are not fetched again, and the container that was left is gone."""
    hub.files |= {"/a.jsonl": lines(*SAMPLES), "/b.jsonl": lines(*SAMPLES)}
    desk.registry(a=desk.match("/a.jsonl"), b=desk.match("/b.jsonl"))
    assert desk.fetch("--select", "a.*").returncode == 0
    hub.may_answer.clear()
    with desk.fetching() as process:
        until(lambda: any("/b.jsonl" in asked for asked in hub.log), 120)
        process.kill()
    assert desk.containers()
    hub.may_answer.set()
    until(lambda: not desk.containers(every=False), 120)
    asked = len(hub.log)

    again = desk.fetch()

    assert again.returncode == 0, again.stdout
    assert "is here  a.dev.v0" in again.stdout
    assert not any("/a.jsonl" in each for each in hub.log[asked:])
    assert not desk.containers()
    assert not list(desk.cache.root.glob(".*"))


def test_ctrl_c_ends_a_fetch_and_its_containers(desk: Desk, hub: Hub) -> None:
    """The exit code is that of the signal, and nothing is left running."""
    desk.registry(a=desk.match("/a.jsonl"))
    hub.may_answer.clear()
    with desk.fetching() as process:
        until(lambda: any("/a.jsonl" in asked for asked in hub.log), 120)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    hub.may_answer.set()

    assert process.returncode == 130
    assert "Traceback" not in said
    assert not desk.containers()


def test_a_full_disk_is_named_and_what_was_whole_stays_whole(
    desk: Desk, hub: Hub, small_cache: Path
) -> None:
    """One line says which disk is full, and what to do; other evals' data are as they were."""
    hub.files["/a.jsonl"] = lines(*SAMPLES)
    desk.registry(a=desk.match("/a.jsonl"), b=desk.loading(leave="big"))
    assert desk.fetch("--select", "a.*", XDG_CACHE_HOME=str(small_cache)).returncode == 0
    before = contents(small_cache)

    fetched = desk.fetch(XDG_CACHE_HOME=str(small_cache))

    assert fetched.returncode == 3
    assert f"cannot keep the data of b.dev.v0: the disk of {small_cache}" in fetched.stderr
    assert "XDG_CACHE_HOME" in fetched.stderr
    assert fetched.stderr.count("\n") == 1
    after = contents(small_cache)
    assert {name: after[name] for name in before} == before
    hub.files.clear()
    run = desk.run("--select", "a.*", XDG_CACHE_HOME=str(small_cache))
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("link", "left a link among its data that leads elsewhere: hf/datasets/link"),
        ("pipe", "left hf/datasets/pipe among its data, which is neither a file nor a folder"),
    ],
)
def test_what_is_no_data_is_refused(desk: Desk, left: str, said: str) -> None:
    """A hostile eval's links lead nowhere, and its pipes block nobody."""
    desk.registry(a=desk.loading(leave=left))

    fetched = desk.fetch()

    assert fetched.returncode == 1
    assert f"the eval a.dev.v0 {said}" in fetched.stdout
    assert not desk.locks()


def given_to(containers: list[str]) -> list[str]:
    """The variables of the only container; none while it is being made or removed."""
    with suppress(ValueError, NotFound):
        (container,) = containers
        return list(engine_api().inspect_container(container)["Config"]["Env"])
    return []


def test_no_key_gets_into_a_container_that_fetches(desk: Desk, hub: Hub) -> None:
    """Only variables that are named are passed in; none of a model's, and none of a rule's."""
    hub.may_answer.clear()
    desk.registry(a=desk.match("/a.jsonl"))
    secret = {"OPENAI_API_KEY": "sk-secret", "ANTHROPIC_API_KEY": "secret-too", "HF_TOKEN": "hf_x"}
    with desk.fetching("-e", "HF_TOKEN", **secret) as process:
        handed = until(lambda: given_to(desk.containers()), 60)
        process.send_signal(signal.SIGINT)
        hub.may_answer.set()

    values = " ".join(handed)
    assert "HF_TOKEN=hf_x" in handed
    assert "sk-secret" not in values
    assert "secret-too" not in values


def test_damaged_data_end_a_run_and_are_fetched_again(desk: Desk, hub: Hub) -> None:
    """A run that would read a part of them does not begin."""
    hub.files["/a.jsonl"] = lines(*SAMPLES)
    desk.registry(a=desk.match("/a.jsonl"))
    assert desk.fetch().returncode == 0
    (content,) = desk.cache.root.glob("a.dev.v0.*/content")
    (sample,) = [each for each in (content / "kept").iterdir() if not each.suffix]
    sample.write_bytes(sample.read_bytes()[:-5])

    run = desk.run()
    again = desk.fetch()

    assert run.returncode == 3
    assert "the fetched data of a.dev.v0 are damaged" in run.stderr
    assert again.returncode == 0
    assert "fetched  a.dev.v0" in again.stdout
    assert desk.run().returncode == 0


def test_two_fetches_at_once_are_refused(desk: Desk, hub: Hub) -> None:
    """The second says where the first one works."""
    hub.may_answer.clear()
    desk.registry(a=desk.match("/a.jsonl"))
    with desk.fetching() as process:
        until(desk.containers, 60)
        second = desk.fetch()
        process.send_signal(signal.SIGINT)
        hub.may_answer.set()

    assert second.returncode == 3
    assert f"another `evalset data` command works in {desk.cache.root}" in second.stderr


def test_an_eval_without_a_network_is_not_started(desk: Desk) -> None:
    """The line says what forbids it."""
    desk.registry(a=desk.match("/a.jsonl"))

    fetched = desk.fetch("--network", "none")

    assert fetched.returncode == 1
    assert "a.dev.v0 gets no network (--network none, or a rule in containers/)" in fetched.stdout


def test_data_are_listed_and_removed(desk: Desk, hub: Hub) -> None:
    """By eval; what was removed is fetched again."""
    hub.files |= {"/a.jsonl": lines(*SAMPLES), "/b.jsonl": lines(*SAMPLES)}
    desk.registry("test-match", a=desk.match("/a.jsonl"), b=desk.match("/b.jsonl"))
    assert desk.fetch().returncode == 0
    (desk.cache.root / ".fetching-d.dev.v0.0123456789abcdef").mkdir()

    listed = desk.do("data", "list")
    cleaned = desk.do("data", "clean", "--select", "a.*")
    nothing = desk.do("data", "clean", "--select", "c.*")

    assert "not whole  .fetching-d.dev.v0.0123456789abcdef" in listed.stdout
    assert "2 evals with data" in listed.stdout
    assert "1 need none" in listed.stdout
    assert "removed the data of 1 eval" in cleaned.stdout
    assert "are of c.*" in nothing.stderr
    assert set(desk.locks()) == {"b.dev.v0", "test-match.s1.simple-v0"}


def test_an_eval_cannot_change_the_data_that_it_reads(desk: Desk) -> None:
    """They are mounted read-only, and those of other evals are not there at all."""
    desk.registry(a=desk.loading(leave="change"), b=desk.loading(leave="change"))
    assert desk.fetch().returncode == 0
    before = desk.locks()

    run = desk.run()

    assert run.returncode == 0, run.stdout
    assert desk.reports()["a.dev.v0"] == {"refused": True, "files": ["change"]}
    assert desk.fetch().stdout.count("is here") == len(before)
    assert desk.locks() == before

import re
import shlex
import shutil

import pytest

from runner.records.run_file import read_run_file
from runner.records.state import RunState
from tests.conftest import engine_api
from tests.data.conftest import Desk, lines, readme, words
from tests.docs.code_blocks import BLOCKS
from tests.hub import Hub
from tests.images import build_image
from tests.wheel import write_wheel

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

TEXTS = [{"text": f"the cat sat on the mat number {index}"} for index in range(4)]
STORIES = [{"ctx": "A story", "endings": ["a", "b", "c", "d"], "label": "1"} for _ in range(3)]
SAMPLES = [{"input": [{"role": "user", "content": "1+1?"}], "ideal": "2"}] * 3


def put_pictures(hub: Hub, pictures: bytes) -> str:
    """A part of the data set of upstream's set `mmmu`; gives its revision."""
    return hub.repository("mmmu/mmmu").commit(
        {
            "README.md": readme(Art={"dev": "Art/dev.parquet", "validation": "Art/val.parquet"}),
            "Art/dev.parquet": pictures,
            "Art/val.parquet": pictures,
        }
    )


def test_the_page_shows_what_a_fetch_says(desk: Desk, hub: Hub, pictures: bytes) -> None:
    """Of an eval of upstream's, with capitals for what differs from hub to hub."""
    revision = put_pictures(hub, pictures)
    (shown,) = [
        typed
        for block in BLOCKS
        if block.page == "docs/data.md"
        for typed in block.typed
        if typed.answer
    ]

    fetched = desk.do(*shlex.split(shown.text)[1:])

    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    (lock,) = desk.locks().values()
    said = fetched.stdout.replace(revision[:12], "REVISION").replace(lock.sha256[:12], "HASH")
    said = re.sub(r"\d[\d.]* [KM]iB", "SIZE", said).replace(f"{desk.folder}/cache", "~/.cache")
    assert said.splitlines() == list(shown.answer)


def test_evals_of_three_families_run_offline_twice_with_what_was_fetched_once(
    desk: Desk, hub: Hub, pictures: bytes
) -> None:
    """The hub is asked while data are fetched, and never again, though it could be reached."""
    hub.repository("EleutherAI/lambada_openai").commit(
        {
            "README.md": readme(en={"test": "data/en.jsonl"}, de={"test": "data/de.jsonl"}),
            "data/en.jsonl": lines(*TEXTS),
            "data/de.jsonl": lines(*TEXTS),
        }
    )
    hub.renamed["hellaswag"] = "Rowan/hellaswag"
    hub.repository("Rowan/hellaswag").commit(
        {
            "README.md": readme(default={"validation": "data/validation.jsonl"}),
            "data/validation.jsonl": lines(*STORIES),
        }
    )
    put_pictures(hub, pictures)
    evals = {"lambada.oaitest.v1", "hellaswag.val.ab-v1", "mmmu-art.dev.v1"}
    desk.registry(*evals)

    fetched = desk.fetch()

    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    assert "3 evals of 3 with data" in fetched.stdout
    asked = len(hub.log)
    assert asked
    for _ in range(2):
        run = desk.run("--no-resume")
        assert run.returncode == 0, run.stdout + run.stderr
        assert desk.finished() == evals
    again = desk.fetch()
    assert again.stdout.count("is here") == len(evals)
    assert hub.log[asked:] == []


def test_encodings_corpora_and_addresses_are_fetched_once_as_well(desk: Desk, hub: Hub) -> None:
    """What tiktoken, nltk and blobfile load comes from the cache, though all could be reached."""
    corpus = {
        path: data.replace(b"ADDRESS", hub.address.encode()) for path, data in words().items()
    }
    hub.files |= corpus | {"/two.tiktoken": b"YQ== 0\nYg== 1\n", "/samples.jsonl": lines(*SAMPLES)}
    desk.registry(
        match=desk.match("/samples.jsonl"),
        tokens=desk.loading(tokens=f"{hub.address}/two.tiktoken"),
        corpus=desk.loading(corpus=f"{hub.address}/index.xml"),
    )

    fetched = desk.fetch()

    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    asked = len(hub.log)
    run = desk.run("--no-resume")
    assert run.returncode == 0, run.stdout + run.stderr
    assert hub.log[asked:] == []
    reports = desk.reports()
    assert reports["tokens.dev.v0"] == {"tokens": 2}
    assert reports["corpus.dev.v0"] == {"words": 3}
    assert reports["match.dev.v0"] is not None


def test_an_encoding_for_another_model_comes_in_the_run(desk: Desk, hub: Hub) -> None:
    """The cache has those that `dummy` needs; the network brings the other one."""
    hub.files |= {"/two.tiktoken": b"YQ== 0\nYg== 1\n", "/one.tiktoken": b"YQ== 0\n"}
    one, two = f"{hub.address}/one.tiktoken", f"{hub.address}/two.tiktoken"
    desk.registry(tokens=desk.loading(tokens=two, later=one))
    assert desk.fetch().returncode == 0
    asked = len(hub.log)

    run = desk.run()

    assert run.returncode == 0, run.stdout + run.stderr
    assert desk.reports()["tokens.dev.v0"] == {"tokens": 2, "later": 1}
    assert hub.log[asked:] == ["GET /one.tiktoken"]


def test_an_eval_that_loads_nothing_is_said_to_need_none(desk: Desk, hub: Hub) -> None:
    """It is pinned to no data, and nobody is asked for it again."""
    desk.registry("test-match")

    fetched = desk.fetch()

    assert fetched.returncode == 0
    assert "no data  test-match.s1.simple-v0 needs none" in fetched.stdout
    assert hub.log == []
    run = desk.run()
    assert run.returncode == 0
    pinned = read_run_file(desk.layout.run)
    assert pinned is not None
    assert pinned.data == {}
    assert not desk.layout.data.exists()


def test_data_that_changed_are_a_changed_pin(desk: Desk, hub: Hub) -> None:
    """Finished evals keep the data that they had, or the run says what differs."""
    hub.files["/samples.jsonl"] = lines(*SAMPLES)
    desk.registry(a=desk.match("/samples.jsonl"), b=desk.match("/samples.jsonl"))
    assert desk.fetch().returncode == 0
    before = desk.locks()["a.dev.v0"].sha256
    assert desk.run("--select", "a.*").returncode == 0
    hub.files["/samples.jsonl"] = lines(*SAMPLES, *SAMPLES)
    kept = desk.fetch("--refresh")
    assert kept.returncode == 0
    now = desk.locks()["a.dev.v0"].sha256

    run = desk.run()

    assert run.returncode == 2
    assert f"data of a.dev.v0: {before[:12]} before, {now[:12]} now" in run.stderr
    assert desk.finished() == {"a.dev.v0"}


def test_another_host_fetches_what_the_run_is_pinned_to(
    desk: Desk, other_desk: Desk, hub: Hub
) -> None:
    """The lock goes there on the branch; the hub's newer revision is left alone.

    The first host runs the part of the set that has not the eval with data.
    """
    repository = hub.repository("EleutherAI/lambada_openai")
    card = {"README.md": readme(en={"test": "en.jsonl"})}
    first = repository.commit({**card, "en.jsonl": lines(*TEXTS)})
    evals = ("lambada.oaitest.v1", "test-match")
    for each in (desk, other_desk):
        each.registry(*evals)
    assert desk.fetch().returncode == 0
    branch = str(desk.folder / "remote.git")
    desk.git("init", "-q", "--bare", branch)
    snapshot = ("--snapshot", "--remote", branch)
    assert desk.run("--shard", "2/2", *snapshot).returncode == 0
    repository.commit({**card, "en.jsonl": lines(*TEXTS[:2])})

    early = other_desk.run(*snapshot)
    fetched = other_desk.fetch()
    late = other_desk.run(*snapshot)

    assert early.returncode == 2, early.stdout
    assert "pinned to data of lambada.oaitest.v1 that are not on this host" in early.stderr
    assert "evalset data fetch dummy s" in early.stderr
    assert fetched.returncode == 0, fetched.stdout
    assert other_desk.locks()["lambada.oaitest.v1"] == desk.locks()["lambada.oaitest.v1"]
    assert first[:12] in fetched.stdout
    assert late.returncode == 0, late.stderr
    assert len(other_desk.finished()) == len(evals)


def test_a_revision_that_is_gone_is_named(desk: Desk, hub: Hub) -> None:
    """A pinned run is not given other data in silence."""
    repository = hub.repository("EleutherAI/lambada_openai")
    card = {"README.md": readme(en={"test": "en.jsonl"})}
    first = repository.commit({**card, "en.jsonl": lines(*TEXTS)})
    desk.registry("lambada.oaitest.v1")
    assert desk.fetch().returncode == 0
    assert desk.run().returncode == 0
    repository.commit({**card, "en.jsonl": lines(*TEXTS[:2])})
    del repository.commits[first]
    desk.forget_data()

    fetched = desk.fetch()

    assert fetched.returncode == 1
    assert fetched.stdout.count("error: ") == 1
    assert f"is pinned to a revision that is gone from the hub: {first[:12]}" in fetched.stdout
    assert not desk.locks()


def test_an_address_that_has_other_data_than_those_pinned_is_refused(desk: Desk, hub: Hub) -> None:
    """What does not match the lock file does not get into the cache."""
    hub.files["/samples.jsonl"] = lines(*SAMPLES)
    desk.registry(a=desk.match("/samples.jsonl"))
    assert desk.fetch().returncode == 0
    assert desk.run().returncode == 0
    hub.files["/samples.jsonl"] = lines(*SAMPLES, *SAMPLES)
    desk.forget_data()

    fetched = desk.fetch()

    assert fetched.returncode == 1
    assert re.search(
        "the data of a.dev.v0 are not those that the run is pinned to: kept/", fetched.stdout
    )
    assert "--refresh" in fetched.stdout
    assert not desk.locks()


def test_an_image_keeps_its_own_path(desk: Desk, hub: Hub) -> None:
    """Of modules: it sets PYTHONPATH, while data are fetched and when they are there."""
    folder = "$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
    image = f"{desk.image}-own-path"
    recipe = f"FROM {desk.image}\nENV PYTHONPATH=/opt/own\nRUN mkdir /opt/own"
    build_image(engine_api(), image, f"{recipe} && mv {folder}/loading.py /opt/own")
    hub.files["/two.tiktoken"] = b"YQ== 0\nYg== 1\n"
    desk.registry(own=desk.loading(tokens=f"{hub.address}/two.tiktoken"))
    try:
        fetched = desk.fetch(EVALSET_IMAGE=image)
        run = desk.run(EVALSET_IMAGE=image)
    finally:
        engine_api().remove_image(image, force=True)

    assert fetched.returncode == 0, fetched.stdout
    assert run.returncode == 0, run.stderr
    assert desk.reports()["own.dev.v0"] == {"tokens": 2}


def test_data_are_fetched_with_the_packages_that_the_run_is_pinned_to(
    desk: Desk, other_desk: Desk, hub: Hub
) -> None:
    """Another host asks no package index: the choice came with the progress directory."""
    hub.files["/samples.jsonl"] = lines(*SAMPLES)
    for each in (desk, other_desk):
        each.registry(match=each.match("/samples.jsonl"))
        file = each.folder / "requirements.txt"
        file.write_text("--no-index\n--find-links index\nextra\n")
    write_wheel(desk.folder / "index", "extra", "1.0")
    words = ("--requirements", "requirements.txt")
    assert desk.fetch(*words).returncode == 0
    ran = desk.run(*words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shutil.copytree(desk.layout.root, other_desk.layout.root)

    fetched = other_desk.fetch(*words)

    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    assert "fetched  match.dev.v0" in fetched.stdout
    anew = other_desk.fetch(*words, "--refresh")
    assert anew.returncode == 2
    assert "extra" in anew.stderr
    (record,) = RunState.from_directory(desk.layout).attempts
    engine_api().remove_image(record.image, force=True)

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.files import make_folder
from runner.gateway.client import Gateway
from runner.gateway.messages import Config
from runner.gateway.providers import INSIDE, NOWHERE, Route, access_offline
from runner.gateway.requests import asked
from runner.records.answers import Answer, Request
from runner.records.layout import Layout
from runner.records.replay import Missing, Replay, read_replay, read_unmatched, write_replay
from runner.records.run_lock import run_lock
from tests.conftest import until
from tests.gateway.desk import Connection
from tests.outcomes import job
from tests.provider import provider

JOB = job()
CHAT = "/openai/v1/chat/completions"
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
OTHER = {"model": "m", "messages": [{"role": "user", "content": "Other"}]}


def route(address: str) -> dict[str, Route]:
    """The provider that is not to be asked."""
    found = access_offline({}, ["openai"]).routes["openai"]
    return {"openai": msgspec.structs.replace(found, address=f"{address}/v1")}


def key_of(body: object) -> str:
    return asked(route(NOWHERE), "POST", CHAT, json.dumps(body).encode(), {}).key


def recorded(layout: Layout, *answers: Answer) -> Replay:
    """A record of answers to `HELLO`, written for a gateway."""
    source = layout.root / "recorded.jsonl"
    path = "/v1/chat/completions"
    request = Request(key=key_of(HELLO), route="openai", method="POST", path=path, body=HELLO)
    make_folder(layout.root)
    lines = (msgspec.json.encode(line) + b"\n" for line in (request, *answers))
    source.write_bytes(b"".join(lines))
    replay = read_replay(source, "before")
    write_replay(replay, source, layout.answers_of(JOB.command))
    return replay


def answer(id_: str, *, status: int = 200, sample: str = "") -> Answer:
    return Answer(
        id=id_,
        key=key_of(HELLO),
        attempt="before",
        status=status,
        sample=sample,
        body=f'"{id_}"',
    )


def ask(folder: Path, body: object = HELLO, sample: str = "") -> tuple[int, Any, str | None]:
    """Ask as an attempt's container does; gives status, body, and whether to retry."""
    headers = {"Content-Type": "application/json"}
    if sample:
        headers["x-evalset-sample"] = sample
    with closing(Connection(folder, "api.sock", timeout=20)) as connection:
        connection.request("POST", CHAT, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers["x-should-retry"]


@contextmanager
def offline(layout: Layout, address: str) -> Iterator[Path]:
    """A gateway that only replays; gives the folder of an attempt that may ask."""

    def listens(folder: Path) -> bool:
        with suppress(OSError):
            ask(folder, {"model": "of nobody"})
            return True
        return False

    config = Config(
        lock=str(layout.lock), routes=route(address), answers=str(layout.answers), offline=True
    )
    with run_lock(layout.lock):
        with Gateway(layout, config) as gateway:
            gateway.start()
            folder = gateway.enter(JOB, "again")
            until(lambda: listens(folder))
            yield folder
            gateway.leave("again")
        if gateway._process is not None:
            gateway._process.wait(20)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "progress", model="m", eval_set="s")


def test_it_answers_from_the_record_and_asks_nobody(tmp_path: Path, layout: Layout) -> None:
    """In the order of the record, errors too; what is not there is a final error, and noted."""
    replay = recorded(layout, answer("1"), answer("2", status=400), answer("3"))
    with provider(tmp_path) as stub, offline(layout, stub.url) as folder:
        assert [ask(folder)[:2] for _ in range(3)] == [(200, "1"), (400, "2"), (200, "3")]
        status, said, again = ask(folder, sample="e.3")
        assert (status, said["error"]["message"], again) == (404, "no answer on record", "false")
        assert ask(folder, OTHER)[0] == 404
        assert stub.requests() == []
    found = read_unmatched(layout.answers_of(JOB.command), "again", replay)
    assert found.missing[-2:] == (
        Missing(sample="e.3", request='POST /v1/chat/completions m "Hello"', asked_before=True),
        Missing(sample="", request='POST /v1/chat/completions m "Other"', asked_before=False),
    )
    assert found.left == 0


def test_a_sample_gets_its_own_answer(layout: Layout) -> None:
    """Whichever asks first; what nobody asks for is left."""
    replay = recorded(layout, answer("1", sample="e.1"), answer("2", sample="e.2"), answer("3"))
    with offline(layout, NOWHERE) as folder:
        assert ask(folder, sample="e.2")[1] == "2"
        assert ask(folder, sample="e.1")[1] == "1"
    assert read_unmatched(layout.answers_of(JOB.command), "again", replay).left == 1


def test_containers_are_led_as_in_a_run() -> None:
    """To each provider on record, without a key; a name that is none leads nowhere."""
    found = access_offline({"EVALS_THREADS": "1"}, ["openai", "groq", "Not one", "anthropic"])
    assert set(found.routes) == {"openai", "groq", "anthropic"}
    assert {each.address for each in found.routes.values()} == {NOWHERE}
    assert all(not each.headers for each in found.routes.values())
    assert found.inside["OPENAI_BASE_URL"] == f"{INSIDE}/openai/v1"
    assert found.inside["GROQ_BASE_URL"] == f"{INSIDE}/groq"
    assert found.inside["EVALS_THREADS"] == "1"

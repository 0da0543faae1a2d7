import base64
import gzip
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPResponse,
    IncompleteRead,
    RemoteDisconnected,
)
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.compat.upstream import PYTHON
from tests.conftest import until
from tests.provider import KEY, ROOT, Provider, Tokens, body_key, provider

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
BEARER = {"Authorization": f"Bearer {KEY}"}
ANTHROPIC = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}

# A body and where the answer has its text, and a stream its pieces, for each path.
FORMS: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    CHAT: (ASKED, ["choices", 0, "message", "content"], ["choices", 0, "delta", "content"]),
    "/v1/completions": (
        {"model": "m", "prompt": "one two three"},
        ["choices", 0, "text"],
        ["choices", 0, "text"],
    ),
    "/v1/responses": (
        {"model": "m", "input": "one two three"},
        ["output", 0, "content", 0, "text"],
        ["delta"],
    ),
    MESSAGES: ({**ASKED, "max_tokens": 9}, ["content", 0, "text"], ["delta", "text"]),
}

STREAM = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]

pytestmark = pytest.mark.timeout(60)


class Answer(msgspec.Struct):
    """What came back, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - as decoded
        """The body."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """What a stream sent, without its end."""
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def open_answer(
    connection: HTTPConnection,
    path: str = CHAT,
    body: object = ASKED,
    headers: Mapping[str, str] = BEARER,
) -> HTTPResponse:
    """Ask; gives an answer whose body is still to be read."""
    connection.request("GET" if body is None else "POST", path, json.dumps(body), dict(headers))
    return connection.getresponse()


def ask(
    stub: Provider,
    path: str = CHAT,
    body: object = ASKED,
    headers: Mapping[str, str] = BEARER,
    timeout: float = 20,
) -> Answer:
    """Ask on a connection of its own; a body of None is a GET request."""
    with closing(HTTPConnection("127.0.0.1", stub.port, timeout=timeout)) as connection:
        answer = open_answer(connection, path, body, headers)
        return Answer(answer.status, dict(answer.getheaders()), answer.read())


def at(found: Any, path: list[Any]) -> Any:  # noqa: ANN401 - as decoded
    """What is at a path of keys and indices; None if nothing is."""
    for step in path:
        found = found.get(step) if isinstance(found, dict) else found[step] if found else None
    return found


def test_an_answer_names_its_bill(stub: Provider) -> None:
    """The bill has what it is about, and the numbers follow one another."""
    first, second = ask(stub).json, ask(stub).json
    bills = stub.bills()
    assert [each.bill for each in bills] == [bills[0].bill, bills[0].bill + 1]
    for answer, bill in zip((first, second), bills, strict=True):
        assert answer["id"] == f"chatcmpl-{bill.bill}"
        assert answer["choices"][0]["message"]["content"] == f"bill {bill.bill}"
        assert (bill.path, bill.key, bill.tokens) == (CHAT, body_key(ASKED), Tokens(3, 5))
    assert first["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def test_equal_bodies_have_one_key() -> None:
    """Whatever the order of their fields."""
    assert body_key({"a": 1, "b": [2]}) == body_key({"b": [2], "a": 1}) != body_key({"a": 1})


def test_a_bill_is_there_before_the_first_byte(stub: Provider) -> None:
    """Of a stream whose second piece nobody will see."""
    stub.behave(piece_delay=60)
    with closing(HTTPConnection("127.0.0.1", stub.port, timeout=20)) as connection:
        answer = open_answer(connection, body={**ASKED, "stream": True})
        assert stub.bills()
        assert answer.read(6) == b"data: "


@pytest.mark.parametrize("path", FORMS)
def test_each_kind_of_answer_has_the_text(stub: Provider, path: str) -> None:
    """Where the provider's clients look for it."""
    body, place, _ = FORMS[path]
    answer = ask(stub, path, body, {**BEARER, **ANTHROPIC}).json
    (bill,) = stub.bills()
    assert at(answer, place) == f"bill {bill.bill}"
    assert answer["id"].replace("_", "-").rpartition("-")[2] == str(bill.bill)
    assert bill.tokens == Tokens(3, 5)
    assert {3, 5} <= {each for each in answer["usage"].values() if isinstance(each, int)}


@pytest.mark.parametrize("path", FORMS)
def test_each_kind_of_answer_can_be_a_stream(stub: Provider, path: str) -> None:
    """In as many pieces as wanted."""
    stub.behave(pieces=4, answer="four pieces of bill {bill}")
    body, _, place = FORMS[path]
    answer = ask(stub, path, {**body, "stream": True}, {**BEARER, **ANTHROPIC})
    pieces = [piece for each in answer.events if isinstance(piece := at(each, place), str)]
    pieces = [piece for piece in pieces if piece]
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert len(pieces) == 4
    assert "".join(pieces) == f"four pieces of bill {stub.bills()[0].bill}"


def test_a_stream_tells_its_tokens_only_if_it_is_asked(stub: Provider) -> None:
    """In its last event, which has no choices."""
    streamed = {**ASKED, "stream": True}
    assert "usage" not in ask(stub, body=streamed).events[-1]
    told = ask(stub, body={**streamed, "stream_options": {"include_usage": True}})
    assert told.events[-1]["usage"]["total_tokens"] == 8
    assert told.events[-1]["choices"] == []
    assert told.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_the_first_number_of_an_embedding_is_the_bills(stub: Provider, encoding: str) -> None:
    """For each input, and in both forms; only the input costs."""
    body = {"model": "m", "input": ["one two", "three"], "encoding_format": encoding}
    answer = ask(stub, "/v1/embeddings", body).json
    (bill,) = stub.bills()
    vectors = [each["embedding"] for each in answer["data"]]
    if encoding == "base64":
        vectors = [struct.unpack("<2f", base64.b64decode(each)) for each in vectors]
    assert [each[0] for each in vectors] == [bill.bill] * 2
    assert bill.tokens == Tokens(3, 0)


def test_azure_has_the_model_in_the_path(stub: Provider) -> None:
    """Its own header for the key, and nothing without a version."""
    path = "/openai/deployments/mine/chat/completions"
    body = {"messages": ASKED["messages"]}
    assert ask(stub, path, body, {"api-key": KEY}).status == 404
    answer = ask(stub, f"{path}?api-version=2024-10-21", body, {"api-key": KEY})
    assert answer.json["model"] == "mine"
    assert [each.path for each in stub.bills()] == [f"{path}?api-version=2024-10-21"]


def test_models_are_listed_and_cost_nothing(stub: Provider) -> None:
    """One by one, too."""
    stub.behave(models=["a", "b/c"])
    listed = ask(stub, "/v1/models", None).json["data"]
    assert [each["id"] for each in listed] == ["a", "b/c"]
    assert ask(stub, "/v1/models/b/c", None).json == listed[1]
    assert ask(stub, "/v1/models/d", None).status == 404
    assert not stub.bills()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (CHAT, {}),
        (CHAT, {"Authorization": "Bearer no"}),
        (MESSAGES, {**ANTHROPIC, "x-api-key": "no"}),
    ],
)
def test_a_wrong_key_is_refused(stub: Provider, path: str, headers: Mapping[str, str]) -> None:
    """In the provider's own words, and without a bill; the request is logged all the same."""
    answer = ask(stub, path, {**ASKED, "max_tokens": 1}, headers)
    assert answer.status == 401
    assert answer.json["error"]["type"] == "invalid_api_key"
    assert (answer.json.get("type") == "error") == (path == MESSAGES)
    assert [each.status for each in stub.refusals()] == [401]
    assert [each.path for each in stub.requests()] == [path]
    assert not stub.bills()


def test_a_key_can_change(stub: Provider) -> None:
    """The old one is then refused."""
    stub.behave(key="another")
    assert ask(stub).status == 401
    assert ask(stub, headers={"Authorization": "Bearer another"}).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/files", ASKED, 404),
        ("/v1/chat", ASKED, 404),
        (CHAT, [], 400),
        (CHAT, {"messages": []}, 400),
        (CHAT, {**ASKED, "n": 1_000_000_000}, 400),
        (CHAT, {**ASKED, "max_tokens": "many"}, 400),
        (MESSAGES, ASKED, 400),
    ],
)
def test_what_cannot_be_answered_is_refused(
    stub: Provider, path: str, body: object, status: int
) -> None:
    """And not billed."""
    assert ask(stub, path, body).status == status
    assert [each.status for each in stub.refusals()] == [status]
    assert not stub.bills()


def test_an_answer_has_no_more_tokens_than_allowed(stub: Provider) -> None:
    """For each of its choices."""
    stub.behave(tokens=50)
    answer = ask(stub, body={**ASKED, "max_tokens": 7, "n": 2}).json
    assert [each["finish_reason"] for each in answer["choices"]] == ["length"] * 2
    assert answer["usage"]["completion_tokens"] == 14
    assert ask(stub, body={**ASKED, "max_tokens": 70}).json["usage"]["completion_tokens"] == 50
    assert [each.tokens.output for each in stub.bills()] == [14, 50]


@pytest.mark.parametrize(
    ("answer", "text"),
    [("Paris", "Paris"), ("{echo}", "last {bill}"), ("<{echo}>", "<last {bill}>")],
)
def test_an_answer_can_be_right(stub: Provider, answer: str, text: str) -> None:
    """A text, or what the user said last; the id still names the bill."""
    stub.behave(answer=answer)
    said = [("user", "first"), ("user", [{"type": "text", "text": "last {bill}"}]), ("system", "x")]
    body = {"model": "m", "messages": [{"role": role, "content": what} for role, what in said]}
    found = ask(stub, body=body).json
    assert found["choices"][0]["message"]["content"] == text
    assert found["id"] == f"chatcmpl-{stub.bills()[0].bill}"


def test_an_answer_can_take_its_time(stub: Provider) -> None:
    """It is billed when it begins, not when the request comes."""
    stub.behave(delay=0.2)
    ask(stub)
    assert stub.bills()[0].at - stub.requests()[0].at >= 0.2


def test_pieces_can_take_their_time(stub: Provider) -> None:
    """Six events have five pauses."""
    stub.behave(piece_delay=0.05)
    began = time.monotonic()
    answer = ask(stub, body={**ASKED, "stream": True})
    assert len(answer.events) == 5
    assert time.monotonic() - began >= 0.25


@pytest.mark.parametrize("stream", STREAM)
def test_an_answer_can_be_cut(stub: Provider, *, stream: bool) -> None:
    """It is billed, and the client sees that more should have come."""
    stub.behave(way="cut")
    with pytest.raises(IncompleteRead) as caught:
        ask(stub, body={**ASKED, "stream": stream})
    assert b"chatcmpl" in caught.value.partial
    assert len(stub.bills()) == 1


def test_a_stream_can_end_too_soon(stub: Provider) -> None:
    """Nothing is wrong with the transfer; what lacks is the stream's own end."""
    stub.behave(way="short")
    answer = ask(stub, body={**ASKED, "stream": True})
    assert len(answer.events) == 3
    assert b"[DONE]" not in answer.body
    with pytest.raises(json.JSONDecodeError):
        _ = ask(stub).json


@pytest.mark.parametrize("stream", STREAM)
def test_an_answer_can_be_compressed(stub: Provider, *, stream: bool) -> None:
    """Though the client did not ask for it."""
    stub.behave(gzip=True)
    answer = ask(stub, body={**ASKED, "stream": stream})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert f"chatcmpl-{stub.bills()[0].bill}".encode() in gzip.decompress(answer.body)


@pytest.mark.parametrize(
    ("pauses", "headers", "seconds"),
    [
        ({"retry_after": 2}, {"Retry-After": "2"}, 2),
        ({"retry_after_ms": 300}, {"retry-after-ms": "300"}, 0.3),
        ({}, {}, None),
    ],
)
def test_a_rate_limit_says_when_to_come_again(
    stub: Provider, pauses: dict[str, object], headers: dict[str, str], seconds: float | None
) -> None:
    """In either header or in none; the ledger says until when."""
    stub.behave(status=429, **pauses)
    answer = ask(stub)
    assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert {k: v for k, v in answer.headers.items() if k.lower().startswith("retry-")} == headers
    (refusal,) = stub.refusals()
    if seconds is None:
        assert refusal.until is None
    else:
        assert refusal.until == pytest.approx(refusal.at + seconds)
    assert not stub.bills()


def test_a_quota_can_be_used_up(stub: Provider) -> None:
    """A 429 that no waiting helps against."""
    stub.behave(status=429, code="insufficient_quota")
    answer = ask(stub)
    assert (answer.status, answer.json["error"]["code"]) == (429, "insufficient_quota")


@pytest.mark.parametrize("status", [500, 502, 503])
def test_it_can_fail(stub: Provider, status: int) -> None:
    """Without a bill."""
    stub.behave(status=status)
    assert (ask(stub).status, stub.bills()) == (status, [])


@pytest.mark.parametrize(("way", "billed"), [("reset", 0), ("late reset", 1)])
def test_a_connection_can_be_reset(stub: Provider, way: str, billed: int) -> None:
    """Before or after billing, and before the first byte."""
    stub.behave(way=way)
    with pytest.raises(ConnectionResetError) as caught:
        ask(stub)
    assert not isinstance(caught.value, RemoteDisconnected), "it was closed, not reset"
    assert len(stub.bills()) == billed


@pytest.mark.parametrize(("way", "billed"), [("hang", 0), ("late hang", 1)])
def test_it_can_hang(stub: Provider, way: str, billed: int) -> None:
    """Until the client goes, which is noticed at once."""
    stub.behave(way=way)
    with pytest.raises(TimeoutError):
        ask(stub, timeout=0.2)
    until(stub.departures)
    assert len(stub.bills()) == billed


def test_a_client_that_leaves_is_billed(stub: Provider) -> None:
    """As a provider does, which computes to the end."""
    stub.behave(delay=0.3)
    with pytest.raises(TimeoutError):
        ask(stub, timeout=0.1)
    until(stub.departures)
    assert len(stub.bills()) == 1


def test_a_client_can_leave_in_the_middle(stub: Provider) -> None:
    """Of a stream, or of its own request, which is then none."""
    stub.behave(piece_delay=60)
    with closing(HTTPConnection("127.0.0.1", stub.port, timeout=20)) as connection:
        open_answer(connection, body={**ASKED, "stream": True})
    until(stub.departures)
    with socket.create_connection(("127.0.0.1", stub.port)) as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf".encode())
    assert ask(stub).status == 200
    assert len(stub.requests()) == 2


def test_an_answer_can_be_large(stub: Provider) -> None:
    """To the byte, and still JSON."""
    stub.behave(size=20_000_000)
    answer = ask(stub)
    assert len(answer.body) == 20_000_000
    assert answer.json["choices"][0]["message"]["content"].startswith("bill")


def test_a_request_can_be_large(stub: Provider) -> None:
    """It is taken, and logged, whole."""
    body = {"model": "m", "prompt": "x" * 3_000_000}
    assert ask(stub, "/v1/completions", body).status == 200
    assert stub.requests()[0].body == json.dumps(body)


def test_an_answer_can_be_garbage(stub: Provider) -> None:
    """A body that its type does not fit."""
    stub.behave(way="garbage")
    answer = ask(stub)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(ValueError, match=r"codec|Expecting|Invalid"):
        _ = answer.json


def test_an_answer_can_be_noise(stub: Provider) -> None:
    """Not even HTTP."""
    stub.behave(way="noise")
    with pytest.raises(BadStatusLine):
        ask(stub)
    assert len(stub.bills()) == 1


@pytest.mark.parametrize(("status", "billed"), [(200, 1), (502, 0)])
def test_an_answer_can_be_a_page(stub: Provider, status: int, billed: int) -> None:
    """As from something between, with any status."""
    stub.behave(way="html", status=status)
    answer = ask(stub)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert answer.body.startswith(b"<!DOCTYPE html>")
    assert len(stub.bills()) == billed


def test_answers_have_headers_that_nobody_should_keep(stub: Provider) -> None:
    """And those that a test gives."""
    stub.behave(headers={"x-mine": "1"})
    assert {"Set-Cookie", "openai-organization", "x-mine"} <= ask(stub).headers.keys()


def test_a_script_says_what_each_request_gets(stub: Provider) -> None:
    """It counts from when it was given, on top of the rest, which comes after its end."""
    stub.behave(answer="rest", script=[{"status": 503}, {}, {"answer": "third"}])
    ask(stub, "/v1/models", None)
    ask(stub, headers={})
    answers = [ask(stub) for _ in range(4)]
    texts = [at(each.json, ["choices", 0, "message", "content"]) for each in answers]
    assert texts == [None, "rest", "third", "rest"]
    assert answers[0].status == 503
    stub.behave()
    assert ask(stub).status == 200


def test_too_many_requests_a_minute_are_refused(stub: Provider) -> None:
    """Until the ledger says; the headers tell how many are left."""
    stub.behave(rpm=120, window=1)
    answers = [ask(stub) for _ in range(3)]
    left = [each.headers["x-ratelimit-remaining-requests"] for each in answers]
    (refusal,) = stub.refusals()
    assert ([each.status for each in answers], left) == ([200, 200, 429], ["1", "0", "0"])
    assert int(answers[2].headers["retry-after-ms"]) <= 1000
    assert refusal.until
    time.sleep(max(refusal.until - time.monotonic(), 0))
    assert ask(stub).status == 200


def test_requests_are_logged_as_they_came(stub: Provider) -> None:
    """With names and values of all headers."""
    ask(stub, headers={**BEARER, "X-Evalset-Sample": "s.1"})
    (request,) = stub.requests()
    assert ("X-Evalset-Sample", "s.1") in request.headers
    assert (request.method, request.path, request.open) == ("POST", CHAT, 1)
    assert request.body == json.dumps(ASKED)


def test_many_are_answered_at_once(stub: Provider) -> None:
    """Each with a bill of its own."""
    stub.behave(delay=0.5)
    with ThreadPoolExecutor(16) as pool:
        ids = {each.json["id"] for each in pool.map(lambda _: ask(stub), range(16))}
    assert ids == {f"chatcmpl-{each.bill}" for each in stub.bills()}
    assert len(ids) == 16
    assert max(each.open for each in stub.requests()) > 1


@pytest.mark.parametrize("wrong", [{"speed": 1}, {"way": "up"}, {"script": [{"rpm": 1}]}])
def test_a_behaviour_that_is_none_is_an_error(stub: Provider, wrong: dict[str, Any]) -> None:
    """At the start and later."""
    with pytest.raises(msgspec.ValidationError):
        stub.behave(**wrong)
    with pytest.raises(msgspec.ValidationError), provider(stub.folder, **wrong):
        pass


def test_numbers_follow_on_after_a_restart(tmp_path: Path) -> None:
    """Of bills and of requests, on the same port."""
    with provider(tmp_path) as first:
        ask(first)
    with pytest.raises(ConnectionRefusedError):
        ask(first)
    with provider(tmp_path, port=first.port) as second:
        ask(second)
        assert [each.bill for each in second.bills()] == [1, 2]
        assert [each.number for each in second.requests()] == [1, 2]


def test_a_bug_of_its_own_fails_the_test(tmp_path: Path) -> None:
    """It is in the log, where nobody would look."""
    with pytest.raises(AssertionError, match="Traceback"), provider(tmp_path) as stub:
        (stub.folder / "provider.log").write_text("Traceback (most recent call last)")


def test_it_does_not_outlive_a_killed_test(tmp_path: Path) -> None:
    """And its key is on no command line."""
    code = (
        "import os, sys, pathlib, tests.provider as p\n"
        "with p.provider(pathlib.Path(sys.argv[1])) as stub:\n"
        "    print(stub.port, flush=True); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, cwd=ROOT, check=False
    )
    assert ended.returncode == -signal.SIGKILL

    def gone() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", int(ended.stdout))) != 0

    until(gone)


@pytest.mark.upstream
def test_openais_own_client_understands_it(stub: Provider) -> None:
    """Each of the calls, whole and as a stream, and an error as the error that it is."""
    stub.behave(script=[{}] * 6 + [{"status": 429, "code": "insufficient_quota"}])
    code = """
import json, sys, openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2], max_retries=0)
said = [{"role": "user", "content": "one two three"}]
chat = client.chat.completions.create(model="m", messages=said)
pieces = client.chat.completions.create(model="m", messages=said, stream=True)
text = client.completions.create(model="m", prompt="one")
vector = client.embeddings.create(model="m", input="one")
response = client.responses.create(model="m", input="one")
events = list(client.responses.create(model="m", input="one", stream=True))
try:
    client.chat.completions.create(model="m", messages=said)
except openai.RateLimitError as error:
    code = error.code
print(json.dumps([
    chat.choices[0].message.content,
    "".join(piece.choices[0].delta.content or "" for piece in pieces),
    text.choices[0].text,
    f"bill {vector.data[0].embedding[0]:g}",
    response.output_text,
    events[-1].response.output_text,
    chat.usage.total_tokens,
    [model.id for model in client.models.list()][0],
    code,
]))
"""
    ended = subprocess.run(
        [PYTHON, "-c", code, stub.url, KEY], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    texts = [f"bill {each.bill}" for each in stub.bills()]
    assert json.loads(ended.stdout) == [*texts, 8, "gpt-3.5-turbo", "insufficient_quota"]

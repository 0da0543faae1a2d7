"""The gateway's process, asked through attempts' sockets, against a provider that bills."""

import http.client
import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from runner.gateway.allowance import Limits
from runner.gateway.asking import MOST_OF_A_BODY
from runner.gateway.client import end_process
from runner.gateway.prices import Price, Prices
from runner.gateway.server import LOOK
from runner.records.run_lock import run_lock
from runner.records.spending import read_sums
from runner.units import Budget
from tests.conftest import until
from tests.gateway.desk import CHAT, Answer, Caller, Desk, job, prompt
from tests.provider import COOKIE, KEY, ORGANIZATION, Provider

pytestmark = pytest.mark.timeout(120)

STREAM = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]


def final(answer: Answer) -> tuple[int, str | None]:
    """Its status, and whether a client should retry."""
    return answer.status, answer.headers.get("x-should-retry")


# What is on record is given, and not paid for again.


@pytest.mark.parametrize("stream", STREAM)
def test_a_second_attempt_is_given_what_the_first_paid_for(here: Desk, *, stream: bool) -> None:
    """To the byte, and without a request to the provider."""
    first = here.enter("a").ask(prompt(stream=stream))
    second = here.enter("b").ask(prompt(stream=stream))
    assert here.billed() == [first.bill]
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["content-type"] == first.headers["content-type"]
    account = here.account("b")
    assert (account.spending.requests, account.spending.replayed) == (1, 1)


def test_equal_prompts_get_different_answers(here: Desk) -> None:
    """As many as were paid for, whoever asks; only one more is paid for."""
    first, second = here.enter("a"), here.enter("b")
    with ThreadPoolExecutor(8) as pool:
        paid = {each.bill for each in pool.map(lambda _: first.ask(prompt()), range(8))}
        again = [each.bill for each in pool.map(lambda _: second.ask(prompt()), range(9))]
    assert paid == set(here.billed()[:8])
    assert sorted(again) == here.billed()
    assert len(here.billed()) == 9


def test_a_sample_is_given_its_own(here: Desk) -> None:
    """Where the eval says which sample asks; else the oldest."""
    first, second = here.enter("a"), here.enter("b")
    for sample in ("s.1", "s.2", "s.3"):
        first.ask(prompt(), headers={"X-Evalset-Sample": sample})
    bills = here.billed()
    asked = [{"x-evalset-sample": "s.2"}, {}, {"x-evalset-sample": "unknown"}]
    assert [second.ask(prompt(), headers=each).bill for each in asked] == [
        bills[1],
        bills[0],
        bills[2],
    ]


def test_what_means_the_same_is_the_same(here: Desk) -> None:
    """The order of keys and blanks are no part of a request; another value is."""
    caller = here.enter("a")
    caller.ask(b'{"model": "m", "messages": [], "seed": 1}')
    assert here.enter("b").ask(b'{"seed":1,\n"messages":[],"model":"m"}').bill == here.billed()[0]
    caller.ask(b'{"model": "m", "messages": [], "seed": 2}')
    assert len(here.billed()) == 2


def test_another_eval_pays_for_itself(here: Desk) -> None:
    """Each has a file of its own."""
    here.enter("a", "one").ask(prompt())
    here.enter("b", "two").ask(prompt())
    assert len(here.billed()) == 2
    assert here.lines("answer", "one") != here.lines("answer", "two")


def test_the_list_of_models_is_on_record_too(here: Desk) -> None:
    """Some programs ask for it when they start."""
    path = "/openai/v1/models"
    first = here.enter("a").ask(method="GET", path=path)
    second = here.enter("b").ask(method="GET", path=path)
    assert first.json == second.json
    assert len(here.stub.requests()) == 1


def test_the_list_of_models_costs_nothing(alone: Desk) -> None:
    """Nor does it need a price, which only a model has; the answers alone are counted."""
    prices = Prices(currency="USD", models={"m": Price(input=1, output=1)})
    limits = Limits(budget=Budget(5, "usd"), prices=prices)
    alone.clear()
    alone.config = msgspec.structs.replace(alone.config, limits=limits)
    alone.start()
    caller = alone.enter("a")
    assert caller.ask(method="GET", path="/openai/v1/models").status == 200
    assert caller.ask(prompt(max_tokens=1)).status == 200
    assert alone.enter("b").ask(method="GET", path="/openai/v1/models").status == 200
    assert len(alone.billed()) == 1
    totals = read_sums(alone.file()).totals
    assert (totals.requests, totals.answers, totals.replayed) == (1, 1, 0)
    spending = [alone.account(name).spending for name in "ab"]
    assert [(each.requests, each.replayed) for each in spending] == [(1, 0), (0, 0)]


def test_an_attempt_that_comes_back_is_not_given_the_same_again(alone: Desk) -> None:
    """Neither after it had left nor after the gateway was started again."""
    assert alone.enter("a").ask(prompt()).bill == alone.billed()[0]
    alone.leave("a")
    assert alone.enter("a").ask(prompt()).bill == alone.billed()[1]
    alone.end()
    alone.start()
    assert alone.enter("a").ask(prompt()).bill == alone.billed()[2]


def test_half_a_surrogate_pair_can_be_asked(alone: Desk) -> None:
    """It is for the provider to refuse it, and its answer is found again."""
    caller = alone.enter("a")
    assert "stub answers with 400" in caller.ask(prompt("\ud800")).json["error"]["message"]
    caller.ask(prompt())
    alone.end()
    alone.start()
    assert alone.enter("b").ask(prompt()).bill == alone.billed()[0]
    assert alone.told == {}
    assert alone.lines("request")[0]["body"] == prompt("?")


@pytest.mark.parametrize("text", ["é\u2028\0", "x" * 100_000], ids=["odd", "long"])
def test_any_text_can_be_asked(alone: Desk, text: str) -> None:
    """Also one that is no UTF-8, and it is found again."""
    paid = alone.enter("a").ask(prompt(text, seed=2**70))
    assert paid.status == 200
    assert json.loads(alone.stub.requests()[0].body) == prompt(text, seed=2**70)
    alone.end()
    alone.start()
    assert alone.enter("b").ask(prompt(text, seed=2**70)).bill == paid.bill
    assert alone.told == {}


def test_records_have_no_key_no_cookie_and_no_organisation(alone: Desk) -> None:
    """Nor does what the client gets, or the process's log, environment and command line."""
    got = alone.enter("a").ask(prompt())
    process = Path("/proc", str(alone.standing().pid))
    files = [path for path in alone.layout.root.rglob("*") if path.is_file()]
    assert alone.file() in files
    texts = [path.read_bytes() for path in [*files, process / "cmdline", process / "environ"]]
    texts += [got.body, str(got.headers).encode()]
    for secret in (KEY, COOKIE, ORGANIZATION):
        assert [text for text in texts if secret.encode() in text] == []


# Streams.


def test_a_stream_passes_as_it_comes(here: Desk) -> None:
    """Its end is held back until it is on record."""
    here.stub.behave(piece_delay=0.5)
    with closing(here.enter("a").begin(prompt(stream=True))) as connection:
        response = connection.getresponse()
        assert response.readline().startswith(b"data: {")
        assert here.lines("answer") == []
        assert response.read().endswith(b"data: [DONE]\n\n")
    assert len(here.lines("answer")) == 1


@pytest.mark.parametrize("way", ["cut", "short"])
def test_a_stream_that_lacks_its_end_is_a_cut(here: Desk, way: str) -> None:
    """The client must not take a part for the whole, and no record does."""
    here.stub.behave(way=way)
    caller = here.enter("a")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        caller.ask(prompt(stream=True))
    assert here.lines("answer") == []
    assert [each.get("billed") for each in until(lambda: here.lines("failed"))] == [None]
    here.stub.behave()
    assert caller.ask(prompt(stream=True)).bill == here.billed()[1]


@pytest.mark.parametrize("stream", STREAM)
def test_what_is_compressed_is_kept_as_text(here: Desk, *, stream: bool) -> None:
    """Clients get it as text, too."""
    here.stub.behave(gzip=True)
    first = here.enter("a").ask(prompt(stream=stream))
    assert "content-encoding" not in first.headers
    assert first.bill == here.billed()[0]
    assert here.enter("b").ask(prompt(stream=stream)).body == first.body


def test_whoever_asks_for_a_stream_may_get_none(here: Desk) -> None:
    """An error comes whole."""
    here.stub.behave(status=400, code="context_length_exceeded")
    got = here.enter("a").ask(prompt(stream=True))
    assert (got.status, got.json["error"]["code"]) == (400, "context_length_exceeded")


# Errors of the provider.


@pytest.mark.parametrize("stream", STREAM)
def test_where_there_is_no_quota_nobody_tries_again(alone: Desk, *, stream: bool) -> None:
    """The run is told, and the attempt's account says why it cannot succeed."""
    alone.stub.behave(status=429, code="insufficient_quota", retry_after=1)
    got = alone.enter("a").ask(prompt(stream=stream))
    assert final(got) == (402, "false")
    assert len(alone.stub.requests()) == 1
    assert "no money" in until(lambda: alone.told.get("quota"))
    assert "no money" in alone.account("a").stopped


def test_a_killed_gateway_forgets_no_stop(alone: Desk) -> None:
    """The eval may take the refusal for an answer, and must not count as finished."""
    alone.stub.behave(status=429, code="insufficient_quota")
    alone.enter("a").ask(prompt())
    alone.abandon()
    assert end_process(alone.layout.gateway)
    alone.start()
    alone.enter("a")
    alone.enter("b")
    assert "no money" in alone.leave("a").stopped
    assert not alone.leave("b").stopped


@pytest.mark.parametrize("stream", STREAM)
def test_a_refused_key_is_passed_on_once(alone: Desk, *, stream: bool) -> None:
    """And with the cure."""
    alone.stub.behave(key="another")
    assert final(alone.enter("a").ask(prompt(stream=stream))) == (401, "false")
    assert len(alone.stub.requests()) == 1
    assert "OPENAI_API_KEY" in until(lambda: alone.told.get("key"))
    assert "OPENAI_API_KEY" in alone.account("a").stopped


@pytest.mark.parametrize(
    "step",
    [{"status": 429, "retry_after": 1}, {"status": 429, "retry_after_ms": 300}, {"status": 429}],
    ids=["Retry-After", "retry-after-ms", "without"],
)
def test_a_rate_limit_is_waited_for(here: Desk, step: dict[str, object]) -> None:
    """The client notices only that it takes longer; nothing comes too early."""
    here.stub.behave(script=[step])
    got = here.enter("a").ask(prompt())
    assert got.bill == here.billed()[0]
    (refusal,) = here.stub.refusals()
    assert here.stub.bills()[0].at >= (refusal.until or refusal.at)
    assert [each.get("billed") for each in here.lines("failed")] == [False]
    until(lambda: "openai limits the rate of m (429)" in " ".join(here.warned))


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_an_error_of_the_providers_own_passes(here: Desk, status: int) -> None:
    """It was not paid for, and is retried."""
    here.stub.behave(script=[{"status": status}])
    assert here.enter("a").ask(prompt()).bill == here.billed()[0]
    assert len(here.stub.requests()) == 2


@pytest.mark.parametrize(("way", "billed"), [("reset", 0), ("late reset", 1), ("noise", 1)])
def test_what_breaks_off_is_perhaps_paid(here: Desk, way: str, billed: int) -> None:
    """The client is told, and decides whether to ask again."""
    here.stub.behave(script=[{"way": way}])
    caller = here.enter("a")
    assert final(caller.ask(prompt())) == (502, None)
    assert len(here.billed()) == billed
    assert [each.get("billed") for each in here.lines("failed")] == [None]
    assert here.lines("answer") == []
    assert caller.ask(prompt()).bill == here.billed()[-1]


def test_an_answer_that_is_too_short_is_none(here: Desk) -> None:
    """Its Content-Length promised more."""
    here.stub.behave(script=[{"way": "cut"}])
    caller = here.enter("a")
    assert final(caller.ask(prompt())) == (502, None)
    assert here.lines("answer") == []
    assert caller.ask(prompt()).bill == here.billed()[1]


@pytest.mark.parametrize("way", ["html", "garbage", "short"])
def test_what_is_no_answer_is_not_kept(here: Desk, way: str) -> None:
    """It is said once, and not tried for ever."""
    here.stub.behave(way=way)
    got = here.enter("a").ask(prompt())
    assert final(got) == (424, "false")
    assert "is not JSON" in got.json["error"]["message"]
    assert here.lines("answer") == []


def test_a_redirect_is_not_followed(here: Desk) -> None:
    """It would take the key elsewhere."""
    here.stub.behave(status=307, headers={"Location": f"{here.stub.url}/v1/elsewhere"})
    assert final(here.enter("a").ask(prompt())) == (424, "false")
    assert [each.path for each in here.stub.requests()] == ["/v1/chat/completions"]


def test_a_provider_that_hangs_holds_nobody_else(alone: Desk) -> None:
    """Others are answered; who left comes back to the same request, which may be paid."""
    alone.stub.behave(script=[{"way": "late hang"}])
    caller = alone.enter("a")
    for _ in range(2):
        with pytest.raises(TimeoutError):
            caller.ask(prompt("hangs"), timeout=0.5)
    assert caller.ask(prompt("other")).status == 200
    assert len(alone.stub.requests()) == 2


def test_a_provider_that_is_not_there_is_waited_for(alone: Desk) -> None:
    """Nothing was paid, so the gateway itself retries; a run may bring a better address."""
    right = alone.config
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    wrong = msgspec.structs.replace(right.routes["openai"], address=f"http://127.0.0.1:{port}/v1")
    alone.gateway._ask("PUT", "/config", msgspec.structs.replace(right, routes={"openai": wrong}))
    caller = alone.enter("a")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(caller.ask, prompt())
        until(lambda: alone.lines("failed"))
        alone.gateway._ask("PUT", "/config", right)
        assert asked.result().bill == alone.billed()[0]
    assert {each.get("billed") for each in alone.lines("failed")} == {False}


# Large bodies.


@pytest.mark.parametrize("stream", STREAM)
def test_twenty_megabytes_go_both_ways(here: Desk, *, stream: bool) -> None:
    """And come again from the record."""
    here.stub.behave(size=20_000_000)
    body = prompt("x" * 20_000_000, stream=stream)
    first = here.enter("a").ask(body)
    assert len(first.body) >= 20_000_000
    assert here.stub.requests()[0].body == json.dumps(body)
    assert here.enter("b").ask(body).body == first.body
    assert here.billed() == [first.bill]


def test_a_body_over_the_limit_is_refused(here: Desk) -> None:
    """Whether it says its size or not; nothing is sent, and the run is told."""
    caller = here.enter("a")
    body = prompt("x" * MOST_OF_A_BODY)
    assert final(caller.ask(body)) == (413, "false")
    chunked = b"x" * 2**20
    with closing(caller.connect()) as connection, suppress(ConnectionError):
        pieces = (chunked for _ in range(40))
        headers = {"Transfer-Encoding": "chunked"}
        connection.request("POST", CHAT, pieces, headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    assert here.stub.requests() == []
    assert "larger than 32 MiB" in here.account("a").refused[0]


# Clients that leave.


def leave_early(caller: Caller, body: object, seconds: float = 0.2) -> None:
    """Ask, and go before the answer comes."""
    with pytest.raises(TimeoutError):
        caller.ask(body, timeout=seconds)


@pytest.mark.parametrize("attempt", ["a", "b"])
@pytest.mark.parametrize("stream", STREAM)
def test_who_asks_the_same_is_given_what_another_left(
    here: Desk, attempt: str, *, stream: bool
) -> None:
    """Once it is on record."""
    here.stub.behave(delay=0.5)
    caller = here.enter("a")
    leave_early(caller, prompt(stream=stream))
    until(lambda: here.lines("answer"))
    other = caller if attempt == "a" else here.enter(attempt)
    assert other.ask(prompt(stream=stream)).bill == here.billed()[0]
    assert len(here.billed()) == 1


@pytest.mark.parametrize("attempt", ["a", "b"])
@pytest.mark.parametrize("stream", STREAM)
def test_who_asks_the_same_waits_for_what_another_left(
    here: Desk, attempt: str, *, stream: bool
) -> None:
    """While it is under way; nobody else is given it then."""
    here.stub.behave(delay=1)
    caller = here.enter("a")
    leave_early(caller, prompt(stream=stream))
    other = caller if attempt == "a" else here.enter(attempt)
    assert other.ask(prompt(stream=stream)).bill == here.billed()[0]
    assert len(here.billed()) == 1
    here.stub.behave()
    assert other.ask(prompt(stream=stream)).bill == here.billed()[1]


def test_a_stream_that_somebody_left_is_given_whole(here: Desk) -> None:
    """To who asks while the rest is still to come."""
    here.stub.behave(piece_delay=0.3)
    caller = here.enter("a")
    with closing(caller.begin(prompt(stream=True))) as connection:
        connection.getresponse().readline()
    got = caller.ask(prompt(stream=True))
    assert got.body.endswith(b"data: [DONE]\n\n")
    assert here.billed() == [got.bill]


def test_what_did_not_reach_a_client_is_given_again(here: Desk) -> None:
    """A large answer of which it read a part only, fresh or from the record."""
    here.stub.behave(size=20_000_000)
    caller, other = here.enter("a"), here.enter("b")
    for each in (caller, other):
        with closing(each.begin(prompt())) as connection:
            connection.getresponse().read(1000)
        name = each.name
        until(lambda: name in [it["attempt"] for it in here.lines("returned")])  # noqa: B023 - at once
        assert each.ask(prompt()).bill == here.billed()[0]
    assert len(here.billed()) == 1


def test_who_leaves_before_anything_is_sent_costs_nothing(alone: Desk) -> None:
    """Such as during a pause after a rate limit."""
    alone.stub.behave(script=[{"status": 429, "retry_after": 1}])
    caller = alone.enter("a")
    leave_early(caller, prompt(), 0.5)
    caller.ask(prompt("another"))
    alone.end()
    assert len(alone.billed()) == 1


def test_what_is_under_way_for_an_attempt_that_ended_is_recorded(here: Desk) -> None:
    """Its file stays open for that; the next attempt is given it."""
    here.stub.behave(delay=1)
    caller = here.enter("a")
    with closing(caller.begin(prompt())):
        until(lambda: here.lines("sent"))
        here.leave("a")
        assert here.enter("b").ask(prompt()).bill == here.billed()[0]
    assert len(here.billed()) == 1


def test_a_gateway_that_ends_waits_for_what_is_under_way(alone: Desk) -> None:
    """It is paid for, so it is recorded first."""
    alone.stub.behave(delay=1)
    leave_early(alone.enter("a"), prompt())
    alone.leave("a")
    alone.end()
    assert len(alone.lines("answer")) == 1
    alone.start()
    assert alone.enter("b").ask(prompt()).bill == alone.billed()[0]
    assert len(alone.billed()) == 1


def test_a_gateway_that_is_about_to_end_is_taken_over(alone: Desk) -> None:
    """By a run that starts meanwhile, with what is under way."""
    alone.stub.behave(delay=2)
    leave_early(alone.enter("a"), prompt())
    pid = alone.standing().pid
    alone.leave("a")
    alone.gateway.end()
    alone.start()
    assert alone.enter("b").ask(prompt()).bill == alone.billed()[0]
    assert alone.standing().pid == pid
    assert len(alone.billed()) == 1


def test_a_gateway_that_no_run_wants_ends_by_itself(tmp_path: Path, stub: Provider) -> None:
    """Once nobody has asked it for a while, and not while a run holds its lock."""
    kept = Desk(tmp_path / "progress", stub)
    kept.config = msgspec.structs.replace(kept.config, patience=0.1)
    with run_lock(kept.layout.lock):
        process = kept.start()._process
        assert process
        kept.abandon()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3 * LOOK)
    assert process.wait(30) == 0


def test_an_ended_attempt_is_served_no_more(here: Desk) -> None:
    """Not even on a connection that it still has."""
    caller = here.enter("a")
    with closing(caller.connect()) as connection:
        connection.request("GET", "/openai/v1/models")
        assert connection.getresponse().read()
        here.leave("a")
        with suppress(OSError):
            connection.request("POST", CHAT, json.dumps(prompt()))
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.getresponse()
    assert here.billed() == []


# A file that is damaged.


def test_a_damaged_answers_file_is_told_and_the_rest_used(alone: Desk) -> None:
    """With the line's number; nothing in it is changed."""
    first = alone.enter("a").ask(prompt())
    alone.enter("a").ask(prompt("two"))
    alone.leave("a")
    alone.end()
    lines = alone.file().read_bytes().splitlines()
    lines[2:2] = [b'{"kind": broken', b"\0\0\0"]
    alone.file().write_bytes(b"\n".join([*lines, b""]))
    before = alone.file().read_bytes()
    alone.start()
    assert alone.enter("b").ask(prompt()).bill == first.bill
    (warning,) = until(lambda: alone.warned)
    assert "line 3" in warning
    assert alone.file().read_bytes().startswith(before)
    assert len(alone.billed()) == 2


def test_each_damaged_answers_file_is_told(alone: Desk) -> None:
    """And not the first one alone; a warning stops no run."""
    for name in ("one", "two"):
        path = alone.file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{ broken\n")
        assert alone.enter(name, name).ask(prompt()).status == 200
    until(lambda: len(alone.warned) == 2)
    assert alone.told == {}


def test_a_torn_last_line_is_set_aside(alone: Desk) -> None:
    """As a killed process leaves it; what comes after is a line of its own."""
    first = alone.enter("a").ask(prompt())
    alone.end()
    with alone.file().open("ab") as file:
        file.write(b'{"version":1,"kind":"answer","id":"torn')
    alone.start()
    caller = alone.enter("b")
    assert caller.ask(prompt()).bill == first.bill
    caller.ask(prompt("two"))
    assert len(alone.lines("answer")) == 2
    assert alone.told == {}


def test_an_answers_file_that_cannot_be_used_is_told(alone: Desk) -> None:
    """Else the eval would wait for ever, and nobody know why."""
    alone.file().parent.mkdir(parents=True)
    alone.file().mkdir()
    alone.gateway.enter(job("e"), "a")
    assert str(alone.file()) in until(lambda: alone.told.get("disk"))

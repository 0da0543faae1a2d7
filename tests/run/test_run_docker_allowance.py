"""Runs whose evals may ask no more, or nothing at all."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.gateway.rates import WINDOW
from runner.gateway.store import utc
from runner.model import Result
from runner.records.answers import AnswersFile, Sent
from tests.conftest import Place, engine_api
from tests.provider import KEY, Provider, provider
from tests.run.test_run_docker_gateway import billed, with_key

pytestmark = pytest.mark.docker

# In a container: a request that the gateway does not pass on.
FORBIDDEN = """
import http.client, os
address = os.environ["OPENAI_BASE_URL"].split("//")[1].partition("/")[0]
connection = http.client.HTTPConnection(address)
connection.request("POST", "/openai/v1/files", "{}")
print(connection.getresponse().status)
"""


@pytest.fixture(scope="module")
def one_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for all tests of this file."""
    with provider(tmp_path_factory.mktemp("provider"), models=("m",)) as found:
        yield found


def test_a_budget_leaves_the_rest_for_a_larger_one(place: Place, stub: Provider) -> None:
    """What does not fit is no failure, and what was paid for is not paid for again."""
    place.registry("ask.60", "ask.2.b")
    ended = place.run("--jobs", "1", "--budget", "4600tok", **with_key(stub))
    assert ended.returncode == 75, ended
    assert (
        "because the budget has no room for them; raise --budget, and the same command continues "
        "with the rest" in ended.stdout
    )
    assert 0 < len(billed(stub)) < 60
    assert place.finished() == []
    assert {record.result for record in place.records()} <= {Result.LOST}
    ended = place.run("--jobs", "1", "--budget", "9000tok", **with_key(stub))
    assert ended.returncode == 0, ended
    assert place.finished() == ["ask.60", "ask.2.b"]
    assert len(billed(stub)) == 62


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 401}, "refused the key"),
        ({"status": 429, "code": "insufficient_quota"}, "has no money left for this key; add some"),
    ],
)
def test_a_key_that_no_longer_pays_ends_the_run(
    place: Place, stub: Provider, answer: dict[str, object], words: str
) -> None:
    """No eval has failed: with a key that does, the run continues."""
    stub.behave(script=[{}, answer])
    place.registry("ask.3", "ask.2.b")
    ended = place.run("--jobs", "1", **with_key(stub))
    assert ended.returncode == 3, ended
    assert words in ended.stderr
    assert place.finished() == []
    stub.behave()
    ended = place.run("--jobs", "1", **with_key(stub))
    assert ended.returncode == 0, ended
    assert place.finished() == ["ask.3", "ask.2.b"]
    assert len(billed(stub)) == 5


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"OPENAI_API_KEY": "sk-of-nobody"},
            "refused the key (401); set OPENAI_API_KEY to a valid",
        ),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "cannot be reached at http://127.0.0.1:9"),
    ],
)
def test_a_provider_that_does_not_answer_is_met_before_any_eval(
    place: Place, stub: Provider, variables: dict[str, str], words: str
) -> None:
    """With one line, and nothing was started."""
    place.registry("ask.3")
    nothing_started(place, words, **{**with_key(stub), **variables})
    assert billed(stub) == []


def test_a_model_that_the_provider_lacks_is_met_before_any_eval(
    place: Place, tmp_path: Path
) -> None:
    """As well."""
    place.registry("ask.3")
    folder = tmp_path / "provider"
    folder.mkdir()
    with provider(folder, models=("n",)) as other:
        nothing_started(place, "has no model `m`, or not for this key", **with_key(other))
        assert billed(other) == []


DEAD = "http://127.0.0.1:9"


def test_an_upstream_that_does_not_answer_is_met_before_any_eval(
    place: Place, stub: Provider
) -> None:
    """Whatever the model is, and whoever has it: the user has named it."""
    place.registry("ask.1")
    upstream = "--upstream", f"lab={DEAD}/v1"
    words = f"the provider lab cannot be reached at {DEAD}/v1: Connection refused; check --upstream"
    nothing_started(place, words, *upstream, **with_key(stub))
    refused = "--upstream", f"lab={stub.url}/v1"
    words = "the provider lab asks for a key (401); set LAB_API_KEY"
    nothing_started(place, words, *refused, **with_key(stub))
    assert billed(stub) == []


def test_an_upstream_that_answers_is_asked_once(place: Place, stub: Provider) -> None:
    """For any model, because nobody knows which it has; next to it the model's own provider."""
    place.registry("ask.1")
    upstream = "--upstream", f"lab={stub.url}/v1", "--upstream", f"lair={stub.url}/v1"
    keys = {"LAB_API_KEY": KEY, "LAIR_API_KEY": KEY}
    ended = place.run(*upstream, **with_key(stub), **keys)
    assert (ended.returncode, ended.stderr) == (0, "")
    asked = sorted(each.path for each in stub.requests() if each.method == "GET")
    assert asked == ["/v1/models", "/v1/models", "/v1/models/m"]


def test_an_address_that_a_run_may_not_need_is_only_warned_of(place: Place, stub: Provider) -> None:
    """One that a variable names, and that the model does not lead to."""
    place.registry("ask.1")
    others = {"ANTHROPIC_BASE_URL": DEAD, "ANTHROPIC_API_KEY": "k", "TOGETHER_API_KEY": "k"}
    ended = place.run(**with_key(stub), **others)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    warning = (
        f"warning: the provider anthropic cannot be reached at {DEAD}: Connection refused; check "
        "ANTHROPIC_BASE_URL and the network"
    )
    assert ended.stdout.count(warning) == 1


def nothing_started(place: Place, words: str, *options: str, **variables: str) -> None:
    """A run that ends with exit code 3 and one line with these words, and leaves nothing."""
    ended = place.run(*options, **variables)
    assert ended.returncode == 3, ended
    (error,) = ended.stderr.splitlines()
    assert words in error
    assert place.records() == []


def test_waiting_for_its_turn_is_not_an_evals_own_time(place: Place, stub: Provider) -> None:
    """As another eval has used up this minute's requests, which a run knows from the record."""
    place.registry("ask.2")
    asked = datetime.now(UTC) - timedelta(seconds=WINDOW - 12)
    place.layout.answers.mkdir(parents=True)
    with closing(AnswersFile(place.layout.answers / "other.0123456789abcdef.jsonl")) as file:
        for number in range(2):
            file.write(Sent(id=f"{number}", key="k", attempt="a", at=utc(asked), model="m"))
    ended = place.run("--rpm", "2", "--timeout", "5", **with_key(stub))
    assert ended.returncode == 0, ended
    (record,) = place.records()
    assert record.duration > 6, "it did not wait"
    assert len(billed(stub)) == 2


def test_the_record_names_what_an_eval_was_not_allowed_to_ask(place: Place, stub: Provider) -> None:
    """Its own final report may be silent about it."""
    place.registry("ask.1.wait")
    with place.running(**with_key(stub)) as run:
        place.until_running(1)
        (container,) = place.containers()
        api = engine_api()
        tried = api.exec_create(container, ["python3", "-c", FORBIDDEN])
        assert api.exec_start(tried["Id"]) == b"404\n"
        place.let_go()
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    (record,) = place.records()
    assert [line for line in record.warnings if "POST /v1/files" in line], record.warnings

"""Each provider, and each path that an eval may ask for, through a gateway that runs."""

import json
from collections.abc import Iterator

import pytest

from runner.gateway.providers import Route, access_for
from runner.units import parse_upstream
from tests.gateway.desk import JSON, Desk, desk, prompt
from tests.provider import KEY, Provider

CHAT = prompt(max_tokens=9)
TEXT = {"model": "m", "prompt": "one", "max_tokens": 9}
INPUT = {"model": "m", "input": "one"}

ASKED = [
    ("/openai/v1/chat/completions", CHAT, "/v1/chat/completions"),
    ("/openai/v1/completions", TEXT, "/v1/completions"),
    ("/openai/v1/embeddings", INPUT, "/v1/embeddings"),
    ("/openai/v1/responses", {**INPUT, "max_output_tokens": 9}, "/v1/responses"),
    ("/together/v1/chat/completions", CHAT, "/v1/chat/completions"),
    ("/together/v1/completions", TEXT, "/v1/completions"),
    ("/anthropic/v1/messages", CHAT, "/v1/messages"),
    ("/near/chat/completions", CHAT, "/v1/chat/completions"),
    ("/near/embeddings", INPUT, "/v1/embeddings"),
    *(
        (f"/azure/openai/deployments/d/{kind}?api-version=1", body, f"/openai/deployments/d/{kind}")
        for kind, body in (("chat/completions", CHAT), ("completions", TEXT), ("embeddings", INPUT))
    ),
]


def routes_to(address: str) -> dict[str, Route]:
    """All providers, as their variables and `--upstream` make them, at one stub."""
    variables = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{address}/v1",
        "TOGETHER_API_KEY": KEY,
        "TOGETHER_BASE_URL": f"{address}/v1",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": address,
        "AZURE_OPENAI_API_KEY": KEY,
        "AZURE_OPENAI_ENDPOINT": address,
        "NEAR_API_KEY": KEY,
    }
    near = parse_upstream(f"near={address}/v1")
    return access_for(variables, named=(), upstreams=[near], environ=variables).routes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, one_stub: Provider) -> Iterator[Desk]:
    """One gateway with all providers."""
    with desk(tmp_path_factory.mktemp("shared"), one_stub, **routes_to(one_stub.url)) as found:
        yield found


@pytest.mark.parametrize(("path", "body", "arrives"), ASKED)
def test_it_is_answered_billed_once_and_recorded(
    here: Desk, path: str, body: dict[str, object], arrives: str
) -> None:
    """With the key where this provider wants it, and the tokens as this provider writes them."""
    headers = {"anthropic-version": "2023-06-01"} if "messages" in path else {}
    first = here.enter("a").ask(body, path=path, headers=headers)
    assert first.status == 200, first
    again = here.enter("b").ask(body, path=path, headers=headers)
    assert again.body == first.body
    (bill,) = here.stub.bills()
    assert bill.path.partition("?")[0] == arrives
    (answer,) = here.lines("answer")
    used = answer["usage"]
    assert used["input"] == bill.tokens.input
    assert used.get("output", 0) == bill.tokens.output
    assert here.account("b").spending.replayed == 1
    assert KEY not in json.dumps([here.lines(kind) for kind in ("request", "sent", "answer")])


def test_the_models_of_each_are_listed(here: Desk) -> None:
    """Which costs nothing."""
    for path in ("/openai/v1/models", "/together/v1/models", "/near/models"):
        assert here.enter().ask(method="GET", path=path, headers=JSON).status == 200, path
    assert here.billed() == []


def test_a_provider_that_the_run_does_not_have_is_refused(here: Desk) -> None:
    """By its name, and nobody is asked."""
    assert here.enter().ask(prompt(), path="/nobody/v1/chat/completions").status == 404
    assert here.billed() == []

"""What an eval of a hostile image gets from the gateway, which is all that it reaches."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.conftest import Hostile, tidied
from tests.hostile.evals.ask import FORBIDDEN
from tests.provider import KEY, Provider, provider

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The provider of a model, on this host."""
    with provider(tmp_path_factory.mktemp("provider"), models=("m",)) as found:
        yield found


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, hostile_image: str, model: Provider
) -> Iterator[Hostile]:
    """Where all that look and ask have run, with a key that somebody pays for."""
    with tidied(Hostile(tmp_path_factory.mktemp("asking"), cache, hostile_image)) as found:
        folder = found.registry("ask")
        address = model.url.removeprefix("http://")
        (folder / "targets").write_text(f"{address}\n127.0.0.1:8470\n192.0.2.1:53")
        found.attack(
            *("ask", "network", "records", "processes"),
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=f"{model.url}/v1",
        )
        yield found


@pytest.fixture(scope="module")
def facts(place: Hostile) -> Mapping[str, Any]:
    """What each reported."""
    return place.reports()


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_not_allowed_is_refused(facts: Mapping[str, Any], name: str) -> None:
    """With an error of the client's, or by ending the connection."""
    said = facts["ask"]["heard"][name]
    assert "chat.completion" not in said
    assert said == "" or said.startswith(("HTTP/1.1 4", "HTTP/1.0 4")), said


def test_only_what_is_allowed_is_paid_for(facts: Mapping[str, Any], model: Provider) -> None:
    """Next to hundreds of connections that say nothing, and after as many that say anything."""
    assert facts["ask"]["allowed"].startswith("HTTP/1.1 200 ")
    (bill,) = model.bills()
    assert bill.path == "/v1/chat/completions"


def test_the_model_is_all_that_is_reached(facts: Mapping[str, Any]) -> None:
    """The port in the container's own loopback leads there; the provider's own address does not."""
    assert facts["network"]["reached"] == ["127.0.0.1:8470"]
    assert facts["network"]["interfaces"] == ["lo"]


def test_no_key_is_seen(place: Hostile, facts: Mapping[str, Any]) -> None:
    """In no variable, process, answer or file, whatever an eval reads."""
    assert KEY not in json.dumps(facts)
    assert KEY not in facts["processes"]["everything"]
    for path in place.progress.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_its_own_socket_is_all_there_is(facts: Mapping[str, Any]) -> None:
    """Read-only; no other attempt's is there, nor the run's."""
    assert facts["ask"]["around"] == ["/evalset/api.sock", "/evalset/forward.py"]
    assert facts["ask"]["written"] == []
    kernels = ("/proc", "/sys", "/dev")
    writable = [place for place in facts["records"]["writable"] if not place.startswith(kernels)]
    assert writable == ["/tmp"]

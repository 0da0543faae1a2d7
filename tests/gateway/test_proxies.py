"""The gateway asks providers through the proxy that the environment names."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from runner.errors import EnvironmentFault
from runner.gateway.sender import TRIES_OF_FREE
from tests.conftest import until
from tests.gateway.desk import Desk, prompt
from tests.provider import Provider

# No name leads there; but a proxy needs none, and the stub answers whatever host is asked for.
ADDRESS = "http://provider.invalid/v1"


@contextmanager
def behind(progress: Path, stub: Provider, **environment: str) -> Iterator[Desk]:
    """A desk whose provider is reached through a proxy alone."""
    found = Desk(progress, stub)
    route = msgspec.structs.replace(found.config.routes["openai"], address=ADDRESS)
    found.config = msgspec.structs.replace(
        found.config, routes={"openai": route}, environment=environment
    )
    try:
        found.start()
        yield found
    finally:
        found.clear()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_is_used(tmp_path: Path, stub: Provider, scheme: str) -> None:
    """It is told the login that its address has, and the provider's whole address."""
    proxy = f"{scheme}user:word@127.0.0.1:{stub.port}"
    with behind(tmp_path, stub, http_proxy=proxy) as desk:
        desk.gateway.check([(desk.config.routes["openai"], "gpt-4o-mini")])
        assert desk.enter().ask(prompt()).bill == desk.billed()[0]
    paths = ["models/gpt-4o-mini", "chat/completions"]
    assert [each.path for each in stub.requests()] == [f"{ADDRESS}/{path}" for path in paths]
    for each in stub.requests():
        headers = {name.lower(): value for name, value in each.headers}
        assert headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_that_is_not_for_a_provider_is_not_used(tmp_path: Path, stub: Provider) -> None:
    """As NO_PROXY says."""
    proxy = f"http://127.0.0.1:{stub.port}"
    with behind(tmp_path, stub, http_proxy=proxy, no_proxy="provider.invalid") as desk:
        with pytest.raises(EnvironmentFault, match="/v1: no such host"):
            desk.gateway.check([(desk.config.routes["openai"], "")])
        with closing(desk.enter().begin(prompt())):
            (failed,) = until(lambda: desk.lines("failed"))
    assert "cannot be reached: no such host" in failed["reason"]
    assert not stub.requests()


def test_a_list_of_models_is_not_waited_for_where_there_is_no_network(
    tmp_path: Path, stub: Provider
) -> None:
    """An eval continues without it, and its client does not retry."""
    with behind(tmp_path, stub, http_proxy="", no_proxy="provider.invalid") as desk:
        said = desk.enter().ask(method="GET", path="/openai/v1/models")
        assert (said.status, said.headers["x-should-retry"]) == (502, "false")
        assert len(desk.lines("failed")) == TRIES_OF_FREE
        until(lambda: "no such host; evals that ask it wait" in " ".join(desk.warned))


def test_a_run_that_takes_over_brings_its_own_proxies(tmp_path: Path, stub: Provider) -> None:
    """Those of the run before it may be gone."""
    with behind(tmp_path, stub, http_proxy="http://127.0.0.1:9", https_proxy="x") as desk:
        with closing(desk.enter().begin(prompt())):
            until(lambda: desk.lines("failed"))
        pid = desk.standing().pid
        desk.abandon()
        environment = {"http_proxy": f"http://127.0.0.1:{stub.port}"}
        desk.config = msgspec.structs.replace(desk.config, environment=environment)
        desk.start()
        assert desk.standing().pid == pid
        assert desk.enter("b").ask(prompt("two")).status == 200


def test_a_login_from_a_file_of_the_users_is_not_sent(
    tmp_path: Path, stub: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider gets its own key, whatever `.netrc` says."""
    (tmp_path / ".netrc").write_text("machine provider.invalid login me password mine\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    proxy = f"http://127.0.0.1:{stub.port}"
    with behind(tmp_path / "progress", stub, http_proxy=proxy) as desk:
        desk.enter().ask(prompt())
    (asked,) = stub.requests()
    assert "Basic" not in dict(asked.headers)["Authorization"]

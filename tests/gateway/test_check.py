"""A run asks the provider before any eval does, and says in one line what is wrong."""

import socket
import ssl
import subprocess
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from runner.errors import EnvironmentFault
from runner.gateway.check import check
from runner.gateway.providers import Route, access_for
from tests.gateway.desk import Desk
from tests.provider import KEY, Provider

MODEL = "gpt-4o-mini"


@pytest.fixture
def route(tmp_path: Path, stub: Provider) -> Route:
    """The way to the stub."""
    return Desk(tmp_path, stub).config.routes["openai"]


def with_(route: Route, **fields: object) -> Route:
    """A route that is the same but for these fields."""
    return msgspec.structs.replace(route, **fields)


def fault_of(route: Route, model: str = MODEL) -> str:
    """What is said."""
    with pytest.raises(EnvironmentFault) as raised:
        check(route, model, {})
    return str(raised.value)


@pytest.mark.parametrize("model", [MODEL, ""])
def test_a_provider_that_answers_is_asked_once(route: Route, stub: Provider, model: str) -> None:
    """It is asked for the model, with the key, and bills nothing."""
    check(route, model, {})
    (asked,) = stub.requests()
    assert asked.method == "GET"
    assert asked.path == ("/v1/models/gpt-4o-mini" if model else "/v1/models")
    assert not stub.bills()


def test_anthropic_is_asked_with_a_version(stub: Provider) -> None:
    """It refuses a request without."""
    check(route_to("anthropic", ANTHROPIC_BASE_URL=stub.url, ANTHROPIC_API_KEY=KEY), MODEL, {})
    (asked,) = stub.requests()
    assert asked.path == f"/v1/models/{MODEL}"
    headers = {name.lower(): value for name, value in asked.headers}
    assert headers["anthropic-version"] == "2023-06-01"


def test_azure_is_asked_for_no_model(stub: Provider) -> None:
    """Evals name deployments there; without a version it is not asked at all."""
    azure = {"AZURE_OPENAI_ENDPOINT": stub.url, "AZURE_OPENAI_API_KEY": KEY}
    check(route_to("azure", **azure), "my-deployment", {})
    assert not stub.requests()
    check(route_to("azure", **azure, OPENAI_API_VERSION="2024-10-21"), "my-deployment", {})
    (asked,) = stub.requests()
    assert asked.path == "/openai/models?api-version=2024-10-21"


def route_to(name: str, **environment: str) -> Route:
    """The way to the provider that these variables name."""
    found = access_for(environment, named=(), upstreams=(), environ=environment)
    return found.routes[name]


def test_a_wrong_key_is_named_by_its_variable(route: Route) -> None:
    """The key itself is not shown."""
    said = fault_of(with_(route, headers={"Authorization": "Bearer wrong-key"}))
    assert said.startswith("the provider openai refused the key (401)")
    assert "OPENAI_API_KEY" in said
    assert "wrong-key" not in said


def test_a_model_that_is_not_there_is_named(route: Route) -> None:
    """Where the provider says that there is none."""
    assert "has no model `gpt-x`, or not for this key" in fault_of(route, "gpt-x")


ANTHROPIC = '{"type":"error","error":{"type":"not_found_error","message":"model: gpt-x"}}'
VLLM = '{"detail":"Not Found"}'
LLAMA = '{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}'
OLLAMA = '{"error":{"message":"model not found","type":"not_found_error","param":null,"code":null}}'
STYLES = [ANTHROPIC, VLLM, LLAMA, OLLAMA, "404 page not found", "<html>"]


@pytest.mark.parametrize("style", STYLES)
def test_a_server_without_a_path_for_a_model_is_asked_for_its_list(
    route: Route, stub: Provider, style: str
) -> None:
    """What it says instead differs from server to server."""
    stub.behave(no_model=style)
    check(route, MODEL, {})
    said = fault_of(route, "gpt-x")
    assert said == (
        "the provider openai has no model `gpt-x`, or not for this key; check the model's name"
    )
    said = fault_of(route, "gpt-4o-mino")
    assert said.endswith("or not for this key; did you mean `gpt-4o-mini`?")
    assert [each.path for each in stub.requests()[:2]] == [f"/v1/models/{MODEL}", "/v1/models"]


def test_anthropic_is_asked_for_all_of_its_list(stub: Provider) -> None:
    """It gives twenty unless more are asked for."""
    stub.behave(no_model=ANTHROPIC)
    anthropic = route_to("anthropic", ANTHROPIC_BASE_URL=stub.url, ANTHROPIC_API_KEY=KEY)
    assert "the provider anthropic has no model `claude-x`" in fault_of(anthropic, "claude-x")
    assert [each.path for each in stub.requests()] == [
        "/v1/models/claude-x",
        "/v1/models?limit=1000",
    ]


@pytest.mark.parametrize(
    "behaviour",
    [
        {"owned_by": "llamacpp"},
        {"has_more": True},
        {"models": ()},
        {"models": ("*",)},
        {"models": ("a/*",)},
        {"models": ("gpt-x:latest",)},
    ],
    ids=str,
)
def test_a_list_that_does_not_tell_is_no_fault(
    route: Route, stub: Provider, behaviour: dict[str, object]
) -> None:
    """One model of llama.cpp has all names, proxies have patterns, and a list may continue."""
    stub.behave(no_model=LLAMA, **behaviour)
    check(route, "gpt-x", {})


@pytest.mark.parametrize(
    "listed",
    ["[]", "{}", '{"data": [{}]}', '{"data": ["m"]}', '{"data": {"m": 1}}', "no JSON", "[" * 9999],
    ids=lambda it: it[:20],
)
def test_a_list_that_is_none_is_no_fault(route: Route, stub: Provider, listed: str) -> None:
    """Some providers give another; the requests of evals will tell."""
    stub.behave(no_model=VLLM, listed=listed)
    check(route, "gpt-x", {})


def test_a_variant_of_a_model_is_that_model(route: Route, stub: Provider) -> None:
    """As OpenRouter has them, which lists none; Ollama's tags are models of their own."""
    stub.behave(no_model=VLLM, models=("lab/m", "n:latest"))
    check(route, "lab/m:online", {})
    assert "has no model `n:70b`" in fault_of(route, "n:70b")


def test_a_provider_without_a_list_of_models_is_good(route: Route) -> None:
    """Some have none."""
    check(with_(route, address=f"{route.address}/elsewhere"), "", {})


@pytest.mark.parametrize("way", ["html", "garbage"])
def test_what_answers_without_json_is_no_provider(route: Route, stub: Provider, way: str) -> None:
    """A web page, such as of a network that asks for a login."""
    stub.behave(way=way)
    said = f"the provider openai answers no JSON at {route.address}; is its address right?"
    assert fault_of(route) == said
    assert fault_of(route, "") == said


def test_a_page_that_says_that_there_is_none_is_no_fault(route: Route, stub: Provider) -> None:
    """Some providers list no models."""
    stub.behave(way="html", status=404)
    check(route, MODEL, {})


def test_a_long_list_of_models_is_read_whole(route: Route, stub: Provider) -> None:
    """Some providers have hundreds of them."""
    stub.behave(models=tuple(f"model-{number:06}" for number in range(5000)))
    check(route, "", {})


def test_nobody_at_the_address(route: Route) -> None:
    """The system says why."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        said = fault_of(with_(route, address=address))
    assert f"cannot be reached at {address}: Connection refused" in said
    assert "check OPENAI_BASE_URL" in said


def test_a_host_that_does_not_exist(route: Route) -> None:
    """It is said without a number of the system's."""
    said = fault_of(with_(route, address="http://provider.invalid/v1"))
    assert "cannot be reached at http://provider.invalid/v1: no such host" in said


REQUEST = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=127.0.0.1"
CURE = "check OPENAI_BASE_URL, and set SSL_CERT_FILE for an authority of your own"


def test_a_server_without_tls_is_said_to_have_none(route: Route) -> None:
    """The number of such an error means something else to the system."""
    said = fault_of(with_(route, address=route.address.replace("http:", "https:")))
    assert said.endswith(f"/v1: wrong version number; {CURE}")


def test_a_certificate_of_an_unknown_authority(route: Route, tmp_path: Path) -> None:
    """What OpenSSL says of it."""
    with self_signed(tmp_path) as port:
        said = fault_of(with_(route, address=f"https://127.0.0.1:{port}/v1"))
    assert said.replace("self-signed", "self signed").endswith(
        f"/v1: self signed certificate; {CURE}"  # as versions of OpenSSL spell it
    )


@contextmanager
def self_signed(folder: Path) -> Iterator[int]:
    """The port of a server whose certificate nobody knows."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [*REQUEST.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=shake_hands, args=(listener, context))
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    """With one client, which may refuse."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        context.wrap_socket(connection, server_side=True)


@pytest.mark.parametrize("way", ["reset", "noise"])
def test_what_is_no_answer(route: Route, stub: Provider, way: str) -> None:
    """The connection breaks off, or what comes is no HTTP."""
    stub.behave(way=way)
    assert f"cannot be reached at {stub.url}/v1: " in fault_of(route)


def test_a_redirect_is_not_followed(route: Route, stub: Provider) -> None:
    """Another host would get the key."""
    stub.behave(status=302, headers={"Location": f"{stub.url}/v1/elsewhere"})
    check(route, MODEL, {})
    assert len(stub.requests()) == 1


@pytest.mark.parametrize("character", ["\n", "\u2026"])
def test_no_error_shows_a_header(route: Route, character: str) -> None:
    """Python quotes a header that cannot be; neither the line nor its causes do."""
    headers = {"Authorization": f"Bearer sk-secret{character}x"}
    with pytest.raises(EnvironmentFault) as raised:
        check(with_(route, headers=headers), MODEL, {})
    said = "".join(traceback.format_exception(raised.value))
    assert "its address, or a proxy's, is not a URL" in said
    assert "sk-secret" not in said


def test_no_error_shows_the_login_of_a_proxy(route: Route) -> None:
    """Python quotes a port that is none, and takes a part of the login for it."""
    environment = {"http_proxy": "http://127.0.0.1:user:secret"}
    with pytest.raises(EnvironmentFault) as raised:
        check(route, MODEL, environment)
    said = "".join(traceback.format_exception(raised.value))
    assert "its address, or a proxy's, is not a URL" in said
    assert "secret" not in said


def test_a_key_that_is_missing_is_not_called_refused(route: Route) -> None:
    """Nobody has given one."""
    said = fault_of(with_(route, headers={}))
    assert said == "the provider openai asks for a key (401); set OPENAI_API_KEY"


def test_an_address_without_its_last_part_is_told(route: Route, stub: Provider) -> None:
    """`/v1` is forgotten most."""
    said = fault_of(with_(route, address=stub.url))
    assert said == (
        f"the provider openai has its API at {stub.url}/v1, not at {stub.url}; add /v1 to the "
        "address in OPENAI_BASE_URL"
    )

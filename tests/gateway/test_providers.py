"""What containers are given instead of keys and addresses, and which requests may go where."""

import json

import pytest

from runner.errors import UsageError
from runner.gateway.client import loopback_of, moved_to
from runner.gateway.providers import INSIDE, WORTHLESS, Access, access_for, route_of
from runner.gateway.requests import Asked, RefusedRequest, asked, kept_headers
from runner.host import PLACEHOLDER_KEY
from runner.units import Upstream

KEY = "sk-the-key-of-a-user"
CHAT = json.dumps({"model": "m", "messages": []}).encode()


def access(
    environment: dict[str, str], *named: str, upstreams: tuple[Upstream, ...] = ()
) -> Access:
    """What becomes of these variables."""
    return access_for(environment, named=named, upstreams=upstreams, environ=environment)


def test_openai_is_reached_with_a_worthless_key() -> None:
    """Its key, organisation and project stay outside, and are sent from there."""
    found = access({"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj"})
    assert found.inside == {
        "OPENAI_API_KEY": WORTHLESS,
        "OPENAI_BASE_URL": f"{INSIDE}/openai/v1",
        "OPENAI_API_BASE": f"{INSIDE}/openai/v1",
    }
    route = found.routes["openai"]
    assert route.url("/v1/models") == "https://api.openai.com/v1/models"
    assert route.headers == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj",
    }
    assert found.hidden.keys() == {"OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"}


def test_a_server_of_ones_own_needs_no_key() -> None:
    """Its address does, with or without a slash at its end, and whatever path it has."""
    found = access({"OPENAI_BASE_URL": "http://localhost:8000/api/"})
    assert found.routes["openai"].url("/v1/chat/completions") == (
        "http://localhost:8000/api/chat/completions"
    )
    assert found.routes["openai"].headers == {}


@pytest.mark.parametrize(
    ("environment", "name", "path", "url", "headers"),
    [
        (
            {"AZURE_OPENAI_ENDPOINT": "https://me.example/", "AZURE_OPENAI_API_KEY": KEY},
            "azure",
            "/openai/deployments/d/chat/completions?api-version=1",
            "https://me.example/openai/deployments/d/chat/completions?api-version=1",
            {"api-key": KEY},
        ),
        (
            {"ANTHROPIC_API_KEY": KEY},
            "anthropic",
            "/v1/messages",
            "https://api.anthropic.com/v1/messages",
            {"x-api-key": KEY},
        ),
        (
            {"TOGETHER_API_KEY": KEY},
            "together",
            "/v1/chat/completions",
            "https://api.together.xyz/v1/chat/completions",
            {"Authorization": f"Bearer {KEY}"},
        ),
    ],
)
def test_other_providers_have_routes_of_their_own(
    environment: dict[str, str], name: str, path: str, url: str, headers: dict[str, str]
) -> None:
    """No value of theirs is inside."""
    found = access(environment)
    route = found.routes[name]
    assert (route.url(path), route.headers) == (url, headers)
    assert not set(environment.values()) & set(found.inside.values())
    assert all(each in found.inside for each in environment)
    assert found.inside["OPENAI_API_KEY"] == PLACEHOLDER_KEY  # oaieval asks for one


@pytest.mark.parametrize(
    ("environment", "name", "url"),
    [
        ({"OPENAI_API_KEY": KEY}, "openai", "https://api.openai.com/v1/models/org/m%3F"),
        ({"OPENAI_BASE_URL": "http://x/api"}, "openai", "http://x/api/models/org/m%3F"),
        ({"ANTHROPIC_API_KEY": KEY}, "anthropic", "https://api.anthropic.com/v1/models/org/m%3F"),
        ({"TOGETHER_API_KEY": KEY}, "together", "https://api.together.xyz/v1/models/org/m%3F"),
        (
            {"AZURE_OPENAI_ENDPOINT": "https://me.example/", "OPENAI_API_VERSION": "2024&1"},
            "azure",
            "https://me.example/openai/models?api-version=2024%261",
        ),
    ],
)
def test_each_provider_has_its_models_at_a_place_of_its_own(
    environment: dict[str, str], name: str, url: str
) -> None:
    """Azure's list is not asked for one, because evals name deployments there."""
    assert access(environment).routes[name].models_url("org/m?") == url


def test_azure_without_a_version_has_no_list_of_models() -> None:
    """It answers nothing without one."""
    assert access({"AZURE_OPENAI_ENDPOINT": "https://me.example"}).routes["azure"].models == ""


def test_an_upstream_has_variables_by_its_name() -> None:
    """Its key is taken from the host, and stays outside."""
    found = access({"MY_LAB_API_KEY": KEY}, upstreams=(Upstream("my-lab", "https://lab/v1"),))
    assert found.routes["my-lab"].url("/chat/completions") == "https://lab/v1/chat/completions"
    assert found.routes["my-lab"].models_url("m") == "https://lab/v1/models/m"
    assert found.inside["MY_LAB_BASE_URL"] == f"{INSIDE}/my-lab"
    assert found.inside["MY_LAB_API_KEY"] == WORTHLESS
    assert found.hidden == {"MY_LAB_API_KEY": KEY}


def test_the_key_of_an_upstream_need_not_be_variables_for_containers() -> None:
    """It is known, so that it is masked and in no snapshot."""
    found = access_for(
        {},
        named=(),
        upstreams=(Upstream("lab", "https://lab/v1"),),
        environ={"LAB_API_KEY": KEY, "OTHER": "x"},
    )
    assert found.hidden == {"LAB_API_KEY": KEY}


def test_other_keys_stay_outside_unless_they_are_named() -> None:
    """Those that were withheld are told; proxies and EVALS_ variables are none of them."""
    environment = {
        "OPENAI_API_KEY": KEY,
        "GEMINI_API_KEY": "gemini",
        "HF_TOKEN": "hub",
        "EVALS_THREADS": "3",
        "HTTPS_PROXY": "http://proxy",
        "NO_PROXY": "intranet",
    }
    found = access(environment, "HF_TOKEN", "OPENAI_API_KEY")
    assert found.withheld == ("GEMINI_API_KEY",)
    assert found.inside["HF_TOKEN"] == "hub"  # noqa: S105 - not really
    assert found.inside["OPENAI_API_KEY"] == WORTHLESS
    assert found.inside["EVALS_THREADS"] == "3"
    assert found.inside["HTTPS_PROXY"] == "http://proxy"
    assert found.inside["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def test_blanks_and_newlines_around_a_key_do_no_harm() -> None:
    """Files often end with one; what is searched for in logs has none, either."""
    environment = {
        "OPENAI_API_KEY": f" {KEY}\r\n",
        "OPENAI_ORG_ID": "org-1\n",
        "OPENAI_PROJECT_ID": "\n",
        "LAB_API_KEY": f"{KEY}\n",
    }
    found = access(environment, upstreams=(Upstream("lab", "https://lab"),))
    assert found.routes["openai"].headers == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org-1",
    }
    assert found.routes["lab"].headers == {"Authorization": f"Bearer {KEY}"}
    assert found.hidden["OPENAI_API_KEY"] == KEY


def test_blanks_are_no_key() -> None:
    """So there is no provider."""
    assert access({"OPENAI_API_KEY": " \n"}).routes == {}


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_PROJECT_ID", "LAB_API_KEY"])
@pytest.mark.parametrize("character", ["\n", "\0", "\x7f", "\x85", "\u2026", "\udc80"])
def test_what_no_header_can_have_is_refused(name: str, character: str) -> None:
    """The variable is named; its value is not shown."""
    environment = {"OPENAI_API_KEY": KEY, name: f"sk-half{character}half"}
    with pytest.raises(UsageError) as caught:
        access(environment, upstreams=(Upstream("lab", "https://lab"),))
    assert str(caught.value) == (
        f"the variable {name} has characters that no key has; export it again"
    )


def test_a_model_that_calls_nothing_has_no_route() -> None:
    """Its placeholder is no key."""
    found = access({"OPENAI_API_KEY": PLACEHOLDER_KEY})
    assert found.routes == {}
    assert found.inside == {"OPENAI_API_KEY": PLACEHOLDER_KEY}


@pytest.mark.parametrize(
    "address",
    ["localhost:8000", "ftp://x", "https://", "http://x:0", "no", "http://x/a b", "http://x/\n1"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """By the variable's name."""
    with pytest.raises(UsageError, match="OPENAI_BASE_URL is not the address of a provider"):
        access({"OPENAI_BASE_URL": address})


@pytest.mark.parametrize(
    "address",
    [
        "http://user:word@x/v1",
        "https://word@x",
        "https://x/v1?word=1",
        "https://x/v1#word",
        "http://x?",
    ],
)
def test_an_address_with_a_login_or_a_query_is_refused(address: str) -> None:
    """By the variable's name, without its value."""
    with pytest.raises(UsageError) as caught:
        access({"OPENAI_BASE_URL": address})
    assert str(caught.value) == (
        "OPENAI_BASE_URL has more than a host and a path in it; "
        "leave the rest out, and put the key into OPENAI_API_KEY"
    )


def test_a_newline_after_an_address_does_no_harm() -> None:
    """A file often ends with one."""
    route = access({"OPENAI_BASE_URL": "http://x/v1/\n"}).routes["openai"]
    assert route.address == "http://x/v1"


@pytest.mark.parametrize(
    ("model", "route"),
    [("gpt-4", "openai"), ("claude-3", "anthropic"), ("lab/x", "lab"), ("solver/y", "openai")],
)
def test_a_model_is_looked_for_where_its_name_tells(model: str, route: str) -> None:
    """Else with OpenAI."""
    environment = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}
    routes = access(environment, upstreams=(Upstream("lab", "https://lab"),)).routes
    found = route_of(model, routes)
    assert found
    assert found.name == route


def request(path: str, body: bytes = CHAT, method: str = "POST", beta: str | None = None) -> Asked:
    """What the gateway understands of a request."""
    headers = {"anthropic-beta": beta} if beta else {}
    routes = access({"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}).routes
    return asked(routes, method, path, body, headers)


def test_equal_requests_have_equal_keys() -> None:
    """Whatever the order of names; what changes the meaning makes another key."""
    one = request("/openai/v1/chat/completions", b'{"model": "m", "n": 1}')
    same = request("/openai/v1/chat/completions", b'{"n":1,"model":"m"}')
    other = request("/openai/v1/chat/completions", b'{"n":2,"model":"m"}')
    assert one.key == same.key != other.key
    assert one.model == "m"
    plain, beta = (request("/anthropic/v1/messages", beta=it) for it in (None, "x"))
    assert plain.key != beta.key


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/openai/v1/files"),
        ("POST", "/openai/v1/batches"),
        ("POST", "/openai/v1/fine_tuning/jobs"),
        ("DELETE", "/openai/v1/models/m"),
        ("GET", "/openai/v1/chat/completions"),
        ("POST", "/nobody/v1/chat/completions"),
        ("GET", "/"),
    ],
)
def test_an_eval_may_ask_for_little(method: str, path: str) -> None:
    """It must not spend by files, batches or fine-tuning."""
    with pytest.raises(RefusedRequest) as caught:
        request(path, method=method)
    assert caught.value.status == 404


def test_no_cookie_and_no_organisation_is_kept() -> None:
    """Of an answer's headers."""
    headers = {"content-type": "a", "set-cookie": "b", "openai-organization": "c"}
    assert kept_headers(headers) == {"content-type": "a"}


def test_an_eval_on_the_hosts_network_has_an_address_of_its_own() -> None:
    """So that two of them do not ask for the same port."""
    one, other = loopback_of("a"), loopback_of("b")
    assert one != other
    assert one.startswith("127.")
    assert moved_to(one, "OPENAI_BASE_URL", f"{INSIDE}/openai/v1") == f"http://{one}:8470/openai/v1"
    assert moved_to(one, "NO_PROXY", "127.0.0.1") == f"127.0.0.1,{one}"
    assert moved_to(one, "EVALS_X", "127.0.0.1:9") == "127.0.0.1:9"

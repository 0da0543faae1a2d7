"""Asks a provider for the model before any eval does.

The run asks, not the gateway, because that is still starting when the first container is created.
"""

import http.client
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from runner import __version__
from runner.errors import EnvironmentFault
from runner.gateway.providers import Route
from runner.gateway.requests import is_json

# Seconds in which a provider has to say whether it has a model.
PATIENCE = 15.0

# Further headers that a provider needs, by route; evals send them themselves.
VERSIONS = {"anthropic": {"anthropic-version": "2023-06-01"}}

# Bytes of an answer that are read: lists of models have up to a million.
MOST = 2**24


# The headers that have a key.
KEYS = frozenset({"Authorization", "api-key", "x-api-key"})


def check(route: Route, model: str, environment: Mapping[str, str]) -> None:
    """Ask a provider for a model, which costs nothing.

    Args:
        model: empty if any answer will do.
        environment: with the variables of proxies.

    Raises:
        EnvironmentFault: it does not answer, is not an API, refuses the key, or has no such model.
    """
    if not route.models:
        return
    own = {"User-Agent": f"evalset/{__version__}", **VERSIONS.get(route.name, {})}
    request = urllib.request.Request(  # noqa: S310 - providers speak HTTP
        route.models_url(model), headers=own | route.headers
    )
    opener = urllib.request.build_opener(_proxies_for(route, environment), _NoRedirect)
    where = route.public_address
    try:
        status, body = _ask(opener, request)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EnvironmentFault(
            f"the provider {route.name} cannot be reached at {where}: {_why(error)}",
            _cure(error, route),
        ) from (
            error if isinstance(error, OSError) else None
        )  # other texts may contain a header or a login
    if status in {401, 403} and KEYS.isdisjoint(route.headers):
        raise EnvironmentFault(
            f"the provider {route.name} asks for a key ({status})", f"set {route.key_from}"
        )
    if status in {401, 403}:
        raise EnvironmentFault(
            f"the provider {route.name} refused the key ({status})",
            f"set {route.key_from} to a valid one",
        )
    speaks_openai = route.models == "/models"
    if status == http.client.NOT_FOUND and speaks_openai and _has_api_below(opener, route):
        raise EnvironmentFault(
            f"the provider {route.name} has its API at {where}/v1, not at {where}",
            f"add /v1 to the address in {route.address_from}",
        )
    lacks_model = status == http.client.NOT_FOUND and b"model_not_found" in body
    if model and route.names_model and lacks_model:
        raise EnvironmentFault(
            f"the provider {route.name} has no model `{model}`, or not for this key",
            "check the model's name",
        )
    if status in range(200, 300) and not is_json(body):
        raise EnvironmentFault(
            f"the provider {route.name} answers no JSON at {where}",
            "is its address right?",
        )


def _has_api_below(opener: urllib.request.OpenerDirector, route: Route) -> bool:
    """Whether the address lacks the `/v1` that people forget at its end."""
    request = urllib.request.Request(  # noqa: S310 - providers speak HTTP
        f"{route.address}/v1/models", headers=route.headers
    )
    try:
        status, body = _ask(opener, request)
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return status in range(200, 300) and is_json(body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Returns a redirect as an answer, because another host must not get the key."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""


def _ask(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request
) -> tuple[int, bytes]:
    try:
        with opener.open(request, timeout=PATIENCE) as response:
            return response.status, response.read(MOST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MOST)


def _proxies_for(route: Route, environment: Mapping[str, str]) -> urllib.request.ProxyHandler:
    """The proxies for a provider's scheme; none where `no_proxy` names its host."""
    # Names in small letters have precedence; sorted, they come last.
    named = {name.lower().removesuffix("_proxy"): environment[name] for name in sorted(environment)}
    host = urlsplit(route.address).hostname or ""
    bypassed = urllib.request.proxy_bypass_environment(host, named)  # type: ignore[attr-defined] # typeshed lacks it
    return urllib.request.ProxyHandler({} if bypassed else {k: v for k, v in named.items() if v})


def _cure(error: Exception, route: Route) -> str:
    if isinstance(_reason(error), ssl.SSLError):
        return f"check {route.address_from}, and set SSL_CERT_FILE for an authority of your own"
    return f"check {route.address_from} and the network"


def _reason(error: Exception) -> BaseException | str:
    return error.reason if isinstance(error, urllib.error.URLError) else error


def _why(error: Exception) -> str:
    """Why there is no answer, in a few words."""
    reason = _reason(error)
    if isinstance(reason, ssl.SSLError):  # first, because its number is not one of the system's
        said = getattr(reason, "verify_message", "") or reason.reason or "TLS"
        return said.replace("_", " ").lower()
    if isinstance(reason, socket.gaierror):
        return "no such host"
    if isinstance(reason, TimeoutError):
        return f"no answer in {PATIENCE:g} s"
    if isinstance(reason, OSError):
        said = os.strerror(reason.errno) if reason.errno else str(reason)
        return said or type(reason).__name__
    if isinstance(reason, ValueError | http.client.InvalidURL):
        return "its address, or a proxy's, is not a URL"
    return reason if isinstance(reason, str) else "a broken answer"

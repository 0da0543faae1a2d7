"""Asks a provider for the model before any eval does.

The run asks, not the gateway, because that is still starting when the first container is created.
"""

import http.client
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from urllib.parse import urlsplit

import msgspec

from runner import __version__
from runner.errors import EnvironmentFault, did_you_mean
from runner.files import UNREADABLE
from runner.gateway.providers import Route
from runner.gateway.requests import is_json

# Seconds in which a provider has to say whether it has a model.
PATIENCE = 15.0

# Further headers that a provider needs, by route; evals send them themselves.
VERSIONS = {"anthropic": {"anthropic-version": "2023-06-01"}}

# What is added to the address of a list, by route, so that it is whole.
LISTS = {"anthropic": "?limit=1000"}

OK = range(200, 300)

# Bytes of an answer that are read: lists of models have up to a million.
MOST = 2**24

# The headers that have a key.
KEYS = frozenset({"Authorization", "api-key", "x-api-key"})


def begin(route: Route, model: str, environment: Mapping[str, str]) -> "Future[None]":
    """Begin to `check`, in a thread that a run which ends does not wait for."""
    done: Future[None] = Future()

    def ask() -> None:
        try:
            check(route, model, environment)
            done.set_result(None)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            done.set_exception(error)

    threading.Thread(target=ask, name=f"check-{route.name}", daemon=True).start()
    return done


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
    request = _request(route, route.models_url(model))
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
    if status == http.client.NOT_FOUND:
        _check_missing(opener, route, model, body)
    if status in OK and not is_json(body):
        raise EnvironmentFault(
            f"the provider {route.name} answers no JSON at {where}",
            "is its address right?",
        )


def _check_missing(
    opener: urllib.request.OpenerDirector, route: Route, model: str, body: bytes
) -> None:
    """Raise an EnvironmentFault if a 404 means that a model, or the API, is elsewhere.

    Many servers know no path for a single model: then their list tells, if they have one.
    """
    asks_for_model = bool(model) and route.names_model
    says_so = b"model_not_found" in body
    listed = _listed(opener, route) if asks_for_model and not says_so else None
    if asks_for_model and (says_so or (listed is not None and not _serves(listed, model))):
        close = did_you_mean(model, listed or ())
        raise EnvironmentFault(
            f"the provider {route.name} has no model `{model}`, or not for this key",
            close or "check the model's name",
        )
    where = route.public_address
    if listed is None and route.models == "/models" and _has_api_below(opener, route):
        raise EnvironmentFault(
            f"the provider {route.name} has its API at {where}/v1, not at {where}",
            f"add /v1 to the address in {route.address_from}",
        )


def _serves(listed: Collection[str], model: str) -> bool:
    """Whether a list has a model; one name may stand for many, or have a variant after a colon."""
    names = {model, f"{model}:latest", model.rpartition(":")[0]}
    return not names.isdisjoint(listed) or any("*" in each for each in listed)


class _Model(msgspec.Struct):
    id: str
    owned_by: object = ""


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: object = False


def _listed(opener: urllib.request.OpenerDirector, route: Route) -> list[str] | None:
    """The models of a provider; None if it does not tell, or if its list does not tell."""
    url = route.models_url("") + LISTS.get(route.name, "")
    try:
        status, body = _ask(opener, _request(route, url))
        found = msgspec.json.decode(body, type=_Models)
    except (OSError, http.client.HTTPException, *UNREADABLE):
        return None
    names = [each.id for each in found.data]
    # llama.cpp has one model, and answers by whatever name it is asked.
    is_indifferent = any(each.owned_by == "llamacpp" for each in found.data)
    if status not in OK or found.has_more or is_indifferent or not names:
        return None
    return names


def _request(route: Route, url: str) -> urllib.request.Request:
    own = {"User-Agent": f"evalset/{__version__}", **VERSIONS.get(route.name, {})}
    return urllib.request.Request(url, headers=own | route.headers)  # noqa: S310 - providers speak HTTP


def _has_api_below(opener: urllib.request.OpenerDirector, route: Route) -> bool:
    """Whether the address lacks the `/v1` that people forget at its end."""
    try:
        status, body = _ask(opener, _request(route, f"{route.address}/v1/models"))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return status in OK and is_json(body)


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

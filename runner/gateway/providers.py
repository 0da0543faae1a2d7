"""Which requests may go where, and what is added to them: pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote, urlsplit

import msgspec

from runner.errors import UsageError
from runner.host import PLACEHOLDER_KEY, USUAL_NAMES
from runner.units import Upstream, parse_upstream

# Where the forwarder listens in every container.
INSIDE = "http://127.0.0.1:8470"

# The address of providers that nobody asks.
NOWHERE = "http://offline.invalid"

# What a container gets for a key; no provider takes it.
WORTHLESS = "evalset-gateway"

# A header can have these characters; a control character could end it.
_PLAIN = re.compile(r"[\x20-\x7e\xa0-\xff]*")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that containers reach through the gateway.

    Attributes:
        name: first part of the path that a container asks for.
        address: of the provider, without a `/` at its end.
        headers: that are added to each request; they hold the key.
        key_from: the variable that the key is from, for messages.
        address_from: likewise the address.
        base: what stands below the route's name in the address that containers get.
        models: path of the list of models, below the address; one with a query names no model, and
            where it is empty there is nothing to ask for before evals do.
    """

    name: str
    address: str
    headers: dict[str, str]
    key_from: str
    address_from: str
    base: str = ""
    models: str = "/models"

    @property
    def shown(self) -> str:
        """The address as people may see it, without a login or a query in it."""
        parts = urlsplit(self.address)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        return f"{parts.scheme}://{host}{parts.path}"

    def url(self, path: str) -> str:
        """The address of a request whose path, below the route's name, is this."""
        return self.address + path.removeprefix(self.base)

    @property
    def names_model(self) -> bool:
        """Whether `models_url` has the model in it."""
        return "?" not in self.models

    def models_url(self, model: str) -> str:
        """The address that tells whether a model is there, or, where it is empty, any."""
        named = f"/{quote(model)}" if model and self.names_model else ""
        return f"{self.address}{self.models}{named}"


class _Known(msgspec.Struct, frozen=True):
    """A provider whose variables are known.

    Attributes:
        addresses: variables for its address, the first that is set counting.
        key: variable of its key.
        header: that the key goes in.
        scheme: what stands before the key there.
        default: its address where no variable says another; empty where one must.
        base: what its clients expect behind the address.
        models: path of its list of models, below the address.
        version: variable whose value belongs at the end of that path; empty for none.
        more: variables that become further headers.
    """

    name: str
    addresses: tuple[str, ...]
    key: str
    header: str = "Authorization"
    scheme: str = "Bearer "
    default: str = ""
    base: str = ""
    models: str = "/models"
    version: str = ""
    more: Mapping[str, str] = {}

    @property
    def variables(self) -> frozenset[str]:
        """All that it takes from the environment."""
        return frozenset((*self.addresses, self.key, *self.more))


_OPENAI = _Known(
    "openai",
    ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "OPENAI_API_KEY",
    default="https://api.openai.com/v1",
    base="/v1",
    more={
        "OPENAI_ORG_ID": "OpenAI-Organization",
        "OPENAI_ORGANIZATION": "OpenAI-Organization",
        "OPENAI_PROJECT_ID": "OpenAI-Project",
    },
)
_PROVIDERS = (
    _OPENAI,
    _Known(
        "azure",
        ("AZURE_OPENAI_ENDPOINT",),
        "AZURE_OPENAI_API_KEY",
        "api-key",
        "",
        models="/openai/models?api-version=",
        version="OPENAI_API_VERSION",
    ),
    _Known(
        "anthropic",
        ("ANTHROPIC_BASE_URL",),
        "ANTHROPIC_API_KEY",
        "x-api-key",
        "",
        default="https://api.anthropic.com",
        models="/v1/models",
    ),
    _Known(
        "together",
        ("TOGETHER_BASE_URL",),
        "TOGETHER_API_KEY",
        default="https://api.together.xyz/v1",
        base="/v1",
    ),
)

# Proxies are no provider's, and evals that fetch data need them.
_PROXIES = frozenset(name for name in USUAL_NAMES if name.lower().endswith("_proxy"))

# What a container with a proxy asks for without it.
_LOCAL = "127.0.0.1,localhost"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How evals reach their models.

    Attributes:
        inside: variables that containers get.
        hidden: those that stay outside.
        routes: providers that the gateway leads to, by name; without any there is no gateway.
        left_out: names of usual variables that containers do not get, and no route replaces.
    """

    inside: dict[str, str]
    hidden: dict[str, str] = {}
    routes: dict[str, Route] = {}
    left_out: tuple[str, ...] = ()


def access_for(
    environment: Mapping[str, str],
    *,
    named: Collection[str],
    upstreams: Sequence[Upstream],
    environ: Mapping[str, str],
) -> Access:
    """Give the gateway what it knows, and containers the rest, but no usual key.

    Args:
        environment: all that would be handed in.
        named: those that the user named; they are handed in unless a route replaces them.
        upstreams: further providers.
        environ: the host's variables, where their keys are.

    Raises:
        UsageError: an address is none, or no header can have a key.
    """
    given = dict(environment)
    if given.get("OPENAI_API_KEY") == PLACEHOLDER_KEY:
        del given["OPENAI_API_KEY"]
    found = [(known, route) for known in _PROVIDERS if (route := _route(known, given))]
    found += [_upstream(text, {**environ, **given}) for text in upstreams]
    covered = {name for known, _ in found for name in known.variables}
    usual = set(USUAL_NAMES) - _PROXIES - {"OPENAI_API_VERSION"} - set(named)
    hidden = {name: given[name].strip() for name in (covered | usual) & given.keys()}
    hidden |= {name: environ[name].strip() for name in covered & environ.keys()}
    inside = {name: value for name, value in given.items() if name not in hidden}
    inside.setdefault("OPENAI_API_KEY", PLACEHOLDER_KEY)  # oaieval asks for one in any case
    for known, route in found:
        address = f"{INSIDE}/{route.name}{route.base}"
        inside |= dict.fromkeys(known.addresses, address) | {known.key: WORTHLESS}
    if found and _PROXIES & inside.keys():
        inside |= {
            name: ",".join(filter(None, (inside.get(name), _LOCAL)))
            for name in ("NO_PROXY", "no_proxy")
        }
    return Access(
        inside=inside,
        hidden=hidden,
        routes={route.name: route for _, route in found},
        left_out=tuple(sorted(hidden.keys() - covered - _OPENAI.variables)),
    )


def access_offline(environment: Mapping[str, str], routes: Collection[str]) -> Access:
    """Lead to these providers as a run does, though nobody is there: all answers are on record.

    Args:
        environment: all that is handed in besides.
        routes: names as records have them, so that some may be none.
    """
    known = {each.name: each for each in _PROVIDERS}
    addresses = {each.addresses[0]: NOWHERE for name, each in known.items() if name in routes}
    upstreams = []
    for name in sorted(set(routes) - known.keys()):
        with suppress(UsageError):
            upstreams.append(parse_upstream(f"{name}={NOWHERE}"))
    return access_for(
        {**environment, **addresses}, named=environment, upstreams=upstreams, environ={}
    )


def _route(known: _Known, environment: Mapping[str, str]) -> Route | None:
    named = next((name for name in known.addresses if environment.get(name)), "")
    key = _header_value(known.key, environment)
    if not (named or (key and known.default)):
        return None
    headers = {known.header: f"{known.scheme}{key}"} if key else {}
    headers |= {
        header: value
        for name, header in known.more.items()
        if (value := _header_value(name, environment))
    }
    address = environment.get(named) or known.default
    return Route(
        name=known.name,
        address=_address(address.strip(), named, known.key),
        headers=headers,
        key_from=known.key,
        address_from=named or known.addresses[0],
        base=known.base,
        models=_models(known, environment),
    )


def _models(known: _Known, environment: Mapping[str, str]) -> str:
    if not known.version:
        return known.models
    version = environment.get(known.version, "").strip()
    return f"{known.models}{quote(version, safe='')}" if version else ""


def _upstream(upstream: Upstream, environment: Mapping[str, str]) -> tuple[_Known, Route]:
    prefix = upstream.name.upper().replace("-", "_")
    known = _Known(upstream.name, (f"{prefix}_BASE_URL",), f"{prefix}_API_KEY")
    key = _header_value(known.key, environment)
    route = Route(
        name=upstream.name,
        address=upstream.address,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        key_from=known.key,
        address_from=f"--upstream {upstream.name}",
    )
    return known, route


def _header_value(name: str, environment: Mapping[str, str]) -> str:
    """A variable's value without the blanks and newlines around it; empty where it is not set."""
    value = environment.get(name, "").strip()
    if not _PLAIN.fullmatch(value):
        raise UsageError(f"the variable {name} has characters that no key has", "export it anew")
    return value


def _address(address: str, source: str, key: str) -> str:
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x1f\x7f]", address):
        raise UsageError(
            f"{source} is no address of a provider", "give one that begins with https:// or http://"
        )
    if "@" in parts.netloc or "?" in address or "#" in address:
        raise UsageError(
            f"{source} has more than a host and a path in it",
            f"leave the rest out, and put the key into {key}",
        )
    return address.rstrip("/")


def route_of(model: str, routes: Mapping[str, Route]) -> Route | None:
    """The provider that a model is asked at, as far as its name tells."""
    words = {"claude": "anthropic", "anthropic": "anthropic", "together": "together"}
    for word, name in (*words.items(), *((name, name) for name in routes)):
        if word in model.lower() and name in routes:
            return routes[name]
    return routes.get("openai") or routes.get("azure")

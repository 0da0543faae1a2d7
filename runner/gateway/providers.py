"""The providers, their variables and their addresses, without input or output."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote, urlsplit

import msgspec

from runner.errors import UsageError
from runner.host import PLACEHOLDER_KEY, USUAL_NAMES
from runner.units import Upstream, parse_upstream

# How the names of variables end that hold the address of a provider.
ADDRESSES = ("_BASE_URL", "_API_BASE", "_ENDPOINT")

# Where the forwarder listens in every container.
INSIDE = "http://127.0.0.1:8470"

# The address of a provider that is not asked.
NOWHERE = "http://offline.invalid"

# The key that a container gets; no provider accepts it.
WORTHLESS = "evalset-gateway"

# The characters that a header may have; a control character could end it.
_PLAIN = re.compile(r"[\x20-\x7e\xa0-\xff]*")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that containers reach through the gateway.

    Attributes:
        name: first part of the path that a container asks for.
        address: of the provider, without a `/` at its end.
        headers: those that are added to each request; one has the key.
        key_from: the variable of the key, for messages.
        address_from: the variable of the address, likewise.
        base: the path below the route's name in the address that containers get.
        models: path of the list of models, below the address. If it has a query, no model can be
            named; if it is empty, nothing can be asked before evals do.
        is_named: whether the user has named the address.
    """

    name: str
    address: str
    headers: dict[str, str]
    key_from: str
    address_from: str
    base: str = ""
    models: str = "/models"
    is_named: bool = False

    @property
    def public_address(self) -> str:
        """The address as people may see it, without a login or a query."""
        parts = urlsplit(self.address)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        return f"{parts.scheme}://{host}{parts.path}"

    def url(self, path: str) -> str:
        """The address of a request with this path below the route's name."""
        return self.address + path.removeprefix(self.base)

    @property
    def names_model(self) -> bool:
        """Whether `models_url` contains the model."""
        return "?" not in self.models

    def models_url(self, model: str) -> str:
        """The address that tells whether there is a model, or any model if it is empty."""
        named = f"/{quote(model)}" if model and self.names_model else ""
        return f"{self.address}{self.models}{named}"


class _Provider(msgspec.Struct, frozen=True):
    """A provider and its variables.

    Attributes:
        addresses: variables for its address; the first that is set counts.
        key: variable of its key.
        header: the one that has the key.
        scheme: what precedes the key there.
        default: its address if no variable has another; empty if one must.
        base: the path that its clients expect after the address.
        models: path of its list of models, below the address.
        version: variable whose value is the end of that path; empty for none.
        more: further headers, by the variable that has the value.
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
        """All variables of it."""
        return frozenset((*self.addresses, self.key, *self.more))


_OPENAI = _Provider(
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
    _Provider(
        "azure",
        ("AZURE_OPENAI_ENDPOINT",),
        "AZURE_OPENAI_API_KEY",
        "api-key",
        "",
        models="/openai/models?api-version=",
        version="OPENAI_API_VERSION",
    ),
    _Provider(
        "anthropic",
        ("ANTHROPIC_BASE_URL",),
        "ANTHROPIC_API_KEY",
        "x-api-key",
        "",
        default="https://api.anthropic.com",
        models="/v1/models",
    ),
    _Provider(
        "together",
        ("TOGETHER_BASE_URL",),
        "TOGETHER_API_KEY",
        default="https://api.together.xyz/v1",
        base="/v1",
    ),
)

# Proxies belong to no provider, and evals that fetch data need them.
_PROXIES = frozenset(name for name in USUAL_NAMES if name.lower().endswith("_proxy"))

# The hosts that a container with a proxy reaches directly.
_LOCAL = "127.0.0.1,localhost"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How evals reach their models.

    Attributes:
        inside: variables that containers get.
        hidden: variables that only the gateway gets.
        routes: providers that are reached through the gateway, by name; without any there is none.
        withheld: names of usual variables that containers do not get, and that no route uses.
    """

    inside: dict[str, str]
    hidden: dict[str, str] = {}
    routes: dict[str, Route] = {}
    withheld: tuple[str, ...] = ()


def access_for(
    environment: Mapping[str, str],
    *,
    named: Collection[str],
    upstreams: Sequence[Upstream],
    environ: Mapping[str, str],
) -> Access:
    """Divide variables between the gateway and containers, which get no usual key.

    Args:
        environment: all that would be passed in without a gateway.
        named: those that the user named; they are passed in unless a route uses them.
        upstreams: further providers.
        environ: the host's variables, where their keys are.

    Raises:
        UsageError: an address is not one, or a key cannot be in a header.
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
    inside.setdefault("OPENAI_API_KEY", PLACEHOLDER_KEY)  # oaieval needs one in any case
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
        withheld=tuple(sorted(hidden.keys() - covered - _OPENAI.variables)),
    )


def access_offline(environment: Mapping[str, str], routes: Collection[str]) -> Access:
    """The access of a run with these providers, none of which is asked: it has answers on record.

    Args:
        environment: all other variables that are passed in.
        routes: names from the record, which may be of no provider.
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


def _route(known: _Provider, environment: Mapping[str, str]) -> Route | None:
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
        is_named=bool(named),
    )


def _models(known: _Provider, environment: Mapping[str, str]) -> str:
    if not known.version:
        return known.models
    version = environment.get(known.version, "").strip()
    return f"{known.models}{quote(version, safe='')}" if version else ""


def _upstream(upstream: Upstream, environment: Mapping[str, str]) -> tuple[_Provider, Route]:
    prefix = upstream.name.upper().replace("-", "_")
    known = _Provider(upstream.name, (f"{prefix}_BASE_URL",), f"{prefix}_API_KEY")
    key = _header_value(known.key, environment)
    route = Route(
        name=upstream.name,
        address=upstream.address,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        key_from=known.key,
        address_from=f"--upstream {upstream.name}",
        is_named=True,
    )
    return known, route


def _header_value(name: str, environment: Mapping[str, str]) -> str:
    """A variable's value without blanks and newlines around it; empty if it is not set."""
    value = environment.get(name, "").strip()
    if not _PLAIN.fullmatch(value):
        raise UsageError(f"the variable {name} has characters that no key has", "export it again")
    return value


def _address(address: str, source: str, key: str) -> str:
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x1f\x7f]", address):
        raise UsageError(
            f"{source} is not the address of a provider",
            "give one that begins with https:// or http://",
        )
    if "@" in parts.netloc or "?" in address or "#" in address:
        raise UsageError(
            f"{source} has more than a host and a path in it",
            f"leave the rest out, and put the key into {key}",
        )
    return address.rstrip("/")


def route_of(model: str, routes: Mapping[str, Route]) -> Route | None:
    """The provider that serves a model, judging by the model's name; None if that does not tell."""
    words = {"claude": "anthropic", "anthropic": "anthropic", "together": "together"}
    for word, name in (*words.items(), *((name, name) for name in routes)):
        if word in model.lower() and name in routes:
            return routes[name]
    return routes.get("openai") or routes.get("azure")


def is_answered(model: str, routes: Mapping[str, Route]) -> bool:
    """Whether a provider answers for a model that evals ask by its name.

    They ask OpenAI's API, unless the name leads elsewhere. Azure is for models of a registry: evals
    do not ask it for a model by name.
    """
    route = route_of(model, routes)
    return route is not None and route.name != "azure"

"""Which requests evals may make, and the keys of these, without input or output."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from runner.gateway.providers import Route

# What an eval may ask for, below a route; it must not spend money on files, batches or fine-tuning.
_ALLOWED = (
    ("POST", re.compile(r"(?:/v1)?/(?:chat/completions|completions|embeddings|responses)")),
    (
        "POST",
        re.compile(r"/openai/deployments/[\w.-]+/(?:chat/completions|completions|embeddings)"),
    ),
    ("POST", re.compile(r"/openai/(?:v1/)?(?:chat/completions|embeddings|responses)")),
    ("POST", re.compile(r"(?:/v1)?/messages(?:/count_tokens)?")),
    ("GET", re.compile(r"(?:/v1|/openai)?/models(?:/[\w.:/-]+)?")),
)


# Parts of a path that are resolved on the way, so that another path would arrive.
_DETOUR = re.compile(r"//|/\.{1,2}(?:/|$)")

# Headers that change the meaning of a request.
_MEANING = ("anthropic-version", "anthropic-beta", "openai-beta")


# Headers of an answer that matter to a client; no cookie and no organisation.
_KEPT = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "x-request-id")


def is_allowed(method: str, path: str) -> bool:
    """Whether an eval may ask for this; `path` is below the route's name, without its query."""
    if _DETOUR.search(path):
        return False
    return any(method == verb and shape.fullmatch(path) for verb, shape in _ALLOWED)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request without what identifies the client.

    Attributes:
        path: below the route's name, with its query.
        body: as it is sent on.
        content: the body as JSON; None if there is none.
        headers: those that change its meaning.
    """

    route: str
    method: str
    path: str
    body: bytes
    content: Any
    headers: dict[str, str]

    @property
    def key(self) -> str:
        """The key of the request: equal requests have the same."""
        parts = [self.route, self.method, self.path, self.content, sorted(self.headers.items())]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    @property
    def is_free(self) -> bool:
        """Whether no provider takes money for it: lists of models, and counts of tokens."""
        return self.content is None or self.path.partition("?")[0].endswith("/count_tokens")

    @property
    def model(self) -> str:
        """The model that is asked, or an Azure deployment's name."""
        if isinstance(self.content, dict) and isinstance(model := self.content.get("model"), str):
            return model
        found = re.match(r"/openai/deployments/([\w.-]+)/", self.path)
        return found[1] if found else ""

    @property
    def streams(self) -> bool:
        """Whether the answer is to come in pieces."""
        return isinstance(self.content, dict) and self.content.get("stream") is True


class RefusedRequest(Exception):
    """A request is not sent on; the status and the text are those of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def asked(
    routes: Mapping[str, Route], method: str, target: str, body: bytes, headers: Mapping[str, str]
) -> Asked:
    """Read a request.

    Args:
        target: path and query as they came.

    Raises:
        Refused: evals must not ask for this.
    """
    path, _, query = target.partition("?")
    name, _, rest = path.removeprefix("/").partition("/")
    rest = f"/{rest}"
    if name not in routes:
        raise RefusedRequest(404, f"the gateway has no provider {name[:60]!r}")
    if not is_allowed(method, rest):
        raise RefusedRequest(404, f"{method} {rest[:200]} is not allowed through the gateway")
    content = None
    if body:
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            raise RefusedRequest(400, "the body is not JSON") from None
    if query:
        rest += "?" + urlencode(parse_qsl(query, keep_blank_values=True))
    return Asked(
        route=name,
        method=method,
        path=rest,
        body=body,
        content=content,
        headers={
            header: value for header in _MEANING if (value := headers.get(header)) is not None
        },
    )


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer that are kept with it."""
    return {name: headers[name] for name in _KEPT if name in headers}


def error_body(text: str, kind: str) -> bytes:
    """An error in the form that the providers' clients show."""
    return json.dumps({"error": {"message": text, "type": kind, "code": kind}}).encode()


def is_json(body: bytes) -> bool:
    """Whether a body can be read as JSON."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True

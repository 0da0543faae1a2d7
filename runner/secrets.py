import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import msgspec

from runner.files import named

# Shorter pieces of base64 could stand in a log by chance.
_LEAST_BASE64 = 10


def encodings(value: str) -> set[bytes]:
    """What a value may look like in a log: as it is, escaped, or encoded."""
    raw = value.encode(errors="surrogateescape")
    return {
        *(form.encode(errors="surrogateescape") for form in _escaped(value)),
        *(form.encode() for form in _quoted(raw)),
        *(form for form in _base64(raw) if len(form) >= _LEAST_BASE64),
    }


def _escaped(value: str) -> Iterator[str]:
    """In a line of JSON, and in a text of JSON that such a line has."""
    yield value
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]


def _quoted(raw: bytes) -> Iterator[str]:
    """In an address."""
    for form in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield form
        yield re.sub("%..", lambda match: match[0].lower(), form)


def _base64(raw: bytes) -> Iterator[bytes]:
    """In a longer text that was encoded, such as a header: without what its neighbours change."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + raw)[first:last]


# shorter values are words and numbers that stand on command lines for other reasons
_LEAST = 8

_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-(?:[\w-]{16,}|(?=[\w-]*\d)[\w-]{8,})"  # OpenAI, Anthropic, OpenRouter
    r"|hf_\w{16,}"  # Hugging Face
    r"|AKIA[0-9A-Z]{16}"  # AWS
    r"|AIza[\w-]{30,}"  # Google
    r"|gh[opsur]_\w{20,}|github_pat_\w{20,}"
    r"|gsk_\w{20,}|xai-\w{20,}|r8_\w{20,}"  # Groq, xAI, Replicate
    r")"
)

_SECRET_NAME = re.compile(
    r"(?:^|.*[_-])(?:api_?key|secret|secret_?key|access_?key|private_?key|password|passwd"
    r"|(?:auth|access|api|bearer|refresh|session|hf|github)_?token|authorization|credentials?)$"
    r"|^token$"
)

_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH")

_PUBLIC_VARIABLE = re.compile(
    r"_(URL|URI|ENDPOINT|HOST|REGION|VERSION|TYPE|MODEL|DEPLOYMENT|ORG|ORG_ID|ORGANIZATION|PROJECT"
    r"|PATH|DIR|HOME)$|^EVALS_|^NO_PROXY$",
    re.IGNORECASE,
)

# whatever else such a name says, its value is not public
_NEVER_PUBLIC = re.compile(r"KEY(?!WORD|BOARD)|TOKEN(?!IZ)|SECRET|PASSW|PASSPHRASE|CREDENTIAL")

# what local servers are given that want a key and check none
_PLACEHOLDERS = {
    "",
    "empty",
    "none",
    "null",
    "dummy",
    "password",
    "changeme",
    "test",
    "x",
    "no-key",
    "not-needed",
    "not-needed-by-dummy",
}

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)

_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://([^\s/]*)@", re.IGNORECASE)

_PARAMETER = re.compile(r"[?&;]([^\s=&#;]+)=([^\s&#;]+)")

_SECRET_PARAMETER = re.compile(
    r"sig|key|token|secret|passw|pwd|code|auth|credential", re.IGNORECASE
)

_PUBLIC_PARAMETER = re.compile(r"(api-?)?version=|region=|model=|deployment=", re.IGNORECASE)

# of a name alone before an address: a shorter one is a person's
_LEAST_LOGIN = 16


def holds_secret(token: str, before: str, handed_in: Mapping[str, str]) -> bool:
    """Tell whether a command-line argument looks like it holds a secret.

    Args:
        token: the argument.
        before: the argument before it, which may be the option that it is the value of.
        handed_in: the host's environment variables that containers get: their values are known.
    """
    if _SHAPES.search(token):
        return True
    pairs = _pairs(token, before)
    if any(_is_secret(name, value) for name, value in pairs):
        return True
    values = {token, *(value for _, value in pairs)}
    return any(_gives_away(name, value, token, values) for name, value in handed_in.items())


# Shorter lines of a value of several could stand in a log by chance.
_LEAST_LINE = 20


def secret_values(handed_in: Mapping[str, str]) -> dict[str, str]:
    """Values that nobody else should read, each with the name of the variable that has it.

    Args:
        handed_in: the variables that containers get.
    """
    found: dict[str, str] = {}
    for name, value in handed_in.items():
        if _hides(name, value):
            found |= dict.fromkeys((value, *_within(value)), name)
    return found


def _within(value: str) -> Iterator[str]:
    """Parts of a value that are secret alone, too: a client may show an address without them."""
    parts = [value.strip()]
    rest = value
    for match in _USERINFO.finditer(value):
        login, colon, password = match[1].partition(":")
        rest = rest.replace(match[1], "")
        if not colon and len(login) >= _LEAST_LOGIN:
            parts.append(login)
        if password != login:
            parts.append(password)
    for name, parameter in _PARAMETER.findall(value) if _URL.fullmatch(value) else ():
        if _SECRET_PARAMETER.search(name):
            rest = rest.replace(parameter, "")
            parts.append(parameter)
    if "\n" in value:  # a key of several lines may be shown line by line
        yield from (line for line in map(str.strip, value.split("\n")) if len(line) >= _LEAST_LINE)
    for part in parts:
        # not a word that the address has, such as a database's usual password
        if part.lower() not in rest.lower() or part == value.strip():
            yield from (form for form in (part, unquote(part)) if _is_long(form))


def _hides(name: str, value: str) -> bool:
    """Whether a value is long enough to be told from other text, and is not known to be public."""
    if not _is_long(value):
        return False
    if _NEVER_PUBLIC.search(name.upper()):
        return True
    if _USERINFO.search(value):
        return True
    if _URL.fullmatch(value):
        query = value.partition("?")[2]
        return any(not _PUBLIC_PARAMETER.match(part) for part in query.split("&") if part)
    return not _PUBLIC_VARIABLE.search(name)


def _is_long(value: str) -> bool:
    return len(value) >= _LEAST and value.lower() not in _PLACEHOLDERS


def _pairs(token: str, before: str) -> list[tuple[str, str]]:
    """Give the names and values in an argument: an option's value, and `a=1,b=2` within it."""
    option, value = before if before.startswith("-") else "", token
    if token.startswith("-"):
        option, _, value = token.partition("=")
    parts = [part.partition("=") for part in value.split(",")]
    return [(option, value), *((name, inner) for name, equals, inner in parts if equals)]


def _is_secret(name: str, value: str) -> bool:
    name = name.lstrip("-").lower().replace("-", "_")
    return _SECRET_NAME.match(name) is not None and value.lower() not in _PLACEHOLDERS


def _gives_away(name: str, value: str, token: str, values: set[str]) -> bool:
    """Tell whether an argument holds the value of an environment variable that is not public."""
    if not _hides(name, value):
        return False
    if _SECRET_VARIABLE.search(name.upper()):
        return value in token
    return value in values


# What stands where a secret stood.
MASKED = "***"


class Mask:
    """Takes the values of variables that a container got out of what is recorded or shown.

    A value that a job's own command line has is left alone: it is no secret, and a log's name may
    have it.
    """

    def __init__(self, handed_in: Mapping[str, str], *, public: Iterable[str] = ()) -> None:
        shown = " ".join(public)
        texts = {
            form.decode(errors="surrogateescape")
            for value in secret_values(handed_in)
            if value not in shown
            for form in encodings(value)
        }
        # The longest first, for one may begin with another.
        ordered = sorted(filter(None, texts), key=lambda text: (-len(text), text))
        self._found = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text without the values, in whichever form."""
        return self._found.sub(MASKED, text) if self._found else text

    def value(self, value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
        """What was read from JSON, without the values: in its texts, names and numbers."""
        if self._found is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int | float) and self._found.search(str(value)):
            return MASKED
        return value


# Where nothing was handed in.
NO_MASK = Mask({})

# Plugins of detect-secrets whose rules are shapes of keys, not guesses by entropy or by names.
_PLUGINS = {
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "mailchimp": "MailchimpDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}

# Keys of model providers, for which it has no rules or old ones.
_OWN = {
    "an OpenAI project key": ("sk-proj-", r"[\w-]{20,}"),
    "an OpenAI service key": ("sk-svcacct-", r"[\w-]{20,}"),
    "an OpenAI admin key": ("sk-admin-", r"[\w-]{20,}"),
    "an OpenAI key": ("sk-", r"[A-Za-z0-9]{40,}"),
    "an Anthropic key": ("sk-ant-", r"[\w-]{20,}"),
    "an OpenRouter key": ("sk-or-", r"[\w-]{20,}"),
    "a Hugging Face token": ("hf_", r"[A-Za-z0-9]{30,}"),
    "a Google key": ("AIza", r"[\w-]{35}"),
    "a GitHub token": ("github_pat_", r"\w{22,}"),
    "a Groq key": ("gsk_", r"[A-Za-z0-9]{40,}"),
    "an xAI key": ("xai-", r"[A-Za-z0-9]{40,}"),
    "a Replicate token": ("r8_", r"[A-Za-z0-9]{30,}"),
    "an npm token": ("npm_", r"[A-Za-z0-9]{36}"),
}

# Bytes looked at together, and how many at least are looked at twice: no key is as long.
_BLOCK = 2**20

_OVERLAP = 2**13


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Where something secret stands.

    Attributes:
        line: its number, from 1.
        what: what it looks like; never the value.
    """

    line: int
    what: str


class Scanner:
    """Looks for secrets: values of variables that containers get, and shapes of keys."""

    def __init__(self, handed_in: Mapping[str, str]) -> None:
        values: dict[bytes, str] = {}
        for value, name in secret_values(handed_in).items():
            for form in encodings(value):
                values.setdefault(form, f"the value of {name}")
        self._values = values
        self._overlap = max((_OVERLAP, *map(len, values)))

    def find(self, content: bytes) -> Finding | None:
        """The first secret in some lines; None if there is none."""
        found = [
            (position, what)
            for value, what in self._values.items()
            if (position := content.find(value)) >= 0
        ]
        if not found:
            found = [
                (match.start(), what)
                for what, shape in _shapes()
                if (match := shape.search(content)) is not None
            ]
        if not found:
            return None
        position, what = min(found)
        return Finding(line=content.count(b"\n", 0, position) + 1, what=what)

    def find_in(self, path: Path) -> Finding | None:
        """The first secret in a file, of any size."""
        for line, block in _blocks(path, self._overlap):
            if finding := self.find(block):
                return Finding(line=line + finding.line - 1, what=finding.what)
        return None


def _blocks(path: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """A file in pieces, each with the number of its first line.

    The end of each piece, at least as long as the overlap, begins the next one, from the beginning
    of a line if that is not far: so what has newlines in it, as a key in PEM has, is found, too.
    """
    line = 1
    with named(path, "read"), path.open("rb") as file:
        kept = b""
        while block := file.read(_BLOCK):
            block = kept + block
            yield line, block
            last = max(len(block) - overlap, 0)
            start = block.rfind(b"\n", 0, last) + 1
            if len(block) - start > max(_BLOCK, overlap):
                start = last
            kept = block[start:]
            line += block.count(b"\n", 0, start)


@cache
def _shapes() -> tuple[tuple[str, re.Pattern[bytes]], ...]:
    """The rules of detect-secrets and ours, with what each finds."""
    # What must not stand before is asked behind the beginning, which is quick to look for.
    shapes = [
        (what, re.compile(rf"{start}(?<![\w-]{start}){rest}".encode()))
        for what, (start, rest) in _OWN.items()
    ]
    for module, name in _PLUGINS.items():
        plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)
        shapes += [
            (
                f"a secret ({plugin.secret_type})",
                re.compile(rule.pattern.encode(), rule.flags & ~re.UNICODE),
            )
            for rule in plugin.denylist
        ]
    return tuple(shapes)

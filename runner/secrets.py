import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote

import msgspec

from runner.files import named


class _Shape(NamedTuple):
    """What a kind of key looks like; `typed` is a looser pattern, for command lines alone."""

    what: str
    pattern: str
    typed: str | None = None


def _starting(what: str, start: str, rest: str, typed: str | None = None) -> _Shape:
    """A key that starts with fixed letters which stand for something else within a word."""
    # What must not come before is asked after the start, which is quick to look for.
    return _Shape(what, f"{start}(?<![\\w-]{start}){rest}", typed and f"{start}(?:{typed})")


# The one table of key shapes: an argument and a file are held against the same. The first part has
# keys of model providers, the second the rules of detect-secrets, whose package takes half a second
# to import: its shapes of keys, not its guesses by entropy or by names. In files, which are full of
# other long words, a key must be as long as the provider makes it.
_SHAPES = (
    _starting("an OpenAI project key", "sk-proj-", r"[\w-]{20,}"),
    _starting("an OpenAI service key", "sk-svcacct-", r"[\w-]{20,}"),
    _starting("an OpenAI admin key", "sk-admin-", r"[\w-]{20,}"),
    _starting("an Anthropic key", "sk-ant-", r"[\w-]{20,}"),
    _starting("an OpenRouter key", "sk-or-", r"[\w-]{20,}"),
    _starting("an OpenAI key", "sk-", r"[A-Za-z0-9]{40,}", r"[\w-]{16,}|(?=[\w-]*\d)[\w-]{8,}"),
    _starting("a Hugging Face token", "hf_", r"[A-Za-z0-9]{30,}", r"\w{16,}"),
    _starting("a Google key", "AIza", r"[\w-]{35}", r"[\w-]{30,}"),
    _starting("a GitHub token", "github_pat_", r"\w{22,}", r"\w{20,}"),
    _starting("a Groq key", "gsk_", r"[A-Za-z0-9]{40,}", r"\w{20,}"),
    _starting("an xAI key", "xai-", r"[A-Za-z0-9]{40,}", r"\w{20,}"),
    _starting("a Replicate token", "r8_", r"[A-Za-z0-9]{30,}", r"\w{20,}"),
    _starting("an npm token", "npm_", r"[A-Za-z0-9]{36}"),
    _Shape("an OpenAI key", r"sk-[\w-]*[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    _Shape("an AWS key", r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}"),
    _Shape(
        "an AWS key",
        r"(?i:aws.{0,20}?(?:key|pwd|pw|password|pass|token).{0,20}?['\"][0-9a-z/+]{40}['\"])",
    ),
    _Shape("an Azure key", r"AccountKey=[a-zA-Z0-9+/=]{88}"),
    _Shape("a Discord token", r"[MNO][a-zA-Z\d_-]{23,25}\.[a-zA-Z\d_-]{6}\.[a-zA-Z\d_-]{27}"),
    _Shape("a GitHub token", r"gh[opsur]_[A-Za-z0-9_]{36}", r"gh[opsur]_\w{20,}"),
    _Shape("a GitLab token", r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-[\w-]{20,}"),
    _Shape("a GitLab token", r"GR1348941[\w-]{20,}"),
    _Shape("a Mailchimp key", r"[0-9a-z]{32}-us[0-9]{1,2}"),
    _Shape("a private key", r"BEGIN(?:\s[A-Z\d]+){0,2}\sPRIVATE\sKEY"),
    _Shape("a private key", r"PuTTY-User-Key-File-2"),
    _Shape("a PyPI token", r"pypi-AgE(?:IcHlwaS5vcmc|NdGVzdC5weXBpLm9yZw)[\w-]{70,}"),
    _Shape("a SendGrid key", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _Shape("a Slack token", r"(?i:xox[abposr]-(?:\d+-)+[a-z0-9]+)"),
    _Shape("a Slack address", r"(?i:https://hooks\.slack\.com/services/T\w+/B\w+/\w+)"),
    _Shape("a Square secret", r"sq0csp-[0-9A-Za-z\\_-]{43}"),
    _Shape("a Stripe key", r"[rs]k_live_[0-9a-zA-Z]{24}"),
    _Shape("a Telegram token", r"\d{8,10}:[\w-]{35}"),
    _Shape("a Twilio key", r"AC[a-z0-9]{32}"),
    _Shape("a Twilio key", r"SK[a-z0-9]{32}"),
)


@cache
def _shapes_in_files() -> tuple[tuple[str, re.Pattern[bytes]], ...]:
    return tuple((shape.what, re.compile(shape.pattern.encode())) for shape in _SHAPES)


@cache
def _shapes_in_arguments() -> re.Pattern[str]:
    typed = "|".join(shape.typed for shape in _SHAPES if shape.typed)
    exact = "|".join(shape.pattern for shape in _SHAPES)
    return re.compile(f"(?<![A-Za-z0-9])(?:{typed})|{exact}")


# Shorter values are words and numbers that stand in arguments and logs for other reasons.
_LEAST = 8

# The same of a name without a password before an address, which may be a person's; of one line of
# a value of several; and of a piece of base64.
_LEAST_LOGIN = 16
_LEAST_LINE = 20
_LEAST_BASE64 = 10

_SECRET_OPTION = re.compile(
    r"(?:^|.*[_-])(?:api_?key|secret|secret_?key|access_?key|private_?key|password|passwd"
    r"|(?:auth|access|api|bearer|refresh|session|hf|github)_?token|authorization|credentials?)$"
    r"|^token$"
)

# The value of such a variable is secret within a longer argument, too.
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH")

# Whatever else such a variable's name says, its value is not public.
_NEVER_PUBLIC = re.compile(r"KEY(?!WORD|BOARD)|TOKEN(?!IZ)|SECRET|PASSW|PASSPHRASE|CREDENTIAL")

_PUBLIC_VARIABLE = re.compile(
    r"_(URL|URI|ENDPOINT|HOST|REGION|VERSION|TYPE|MODEL|DEPLOYMENT|ORG|ORG_ID|ORGANIZATION|PROJECT"
    r"|PATH|DIR|HOME)$|^EVALS_|^NO_PROXY$|^PYTHONPATH$",
    re.IGNORECASE,
)

# What servers get that want a key and check none.
_PLACEHOLDERS = {
    *("", "empty", "none", "null", "dummy", "password", "changeme", "test", "x"),
    *("no-key", "not-needed", "not-needed-by-dummy"),
}

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://([^\s/]*)@", re.IGNORECASE)

_PARAMETER = re.compile(r"[?&;]([^\s=&#;]+)=([^\s&#;]+)")
_SECRET_PARAMETER = re.compile(
    r"sig|key|token|secret|passw|pwd|code|auth|credential", re.IGNORECASE
)
_PUBLIC_PARAMETER = re.compile(r"(api-?)?version=|region=|model=|deployment=", re.IGNORECASE)


def holds_secret(token: str, before: str, variables: Mapping[str, str]) -> bool:
    """Tell whether a command-line argument looks like it holds a secret.

    Args:
        before: the argument before it, which may be the option that it is the value of.
        variables: the variables that containers get: their values are known.
    """
    if _shapes_in_arguments().search(token):
        return True
    pairs = _pairs(token, before)
    if any(_is_secret(name, value) for name, value in pairs):
        return True
    values = {token, *(value for _, value in pairs)}
    return any(
        value in (token if _SECRET_VARIABLE.search(name.upper()) else values)
        for name, value in variables.items()
        if _hides(name, value)
    )


def _pairs(token: str, before: str) -> list[tuple[str, str]]:
    """The names and values in an argument: an option's value, and `a=1,b=2` within it."""
    option, value = before if before.startswith("-") else "", token
    if token.startswith("-"):
        option, _, value = token.partition("=")
    parts = [part.partition("=") for part in value.split(",")]
    return [(option, value), *((name, inner) for name, equals, inner in parts if equals)]


def _is_secret(name: str, value: str) -> bool:
    name = name.lstrip("-").lower().replace("-", "_")
    return _SECRET_OPTION.match(name) is not None and value.lower() not in _PLACEHOLDERS


def secret_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Values that nobody else should read, each with the name of the variable that has it."""
    found: dict[str, str] = {}
    for name, value in variables.items():
        if _hides(name, value):
            found |= dict.fromkeys((value, *_within(value)), name)
    return found


def _hides(name: str, value: str) -> bool:
    """Whether a value is long enough to be told from other text, and is not known to be public."""
    if not _is_long(value):
        return False
    if _NEVER_PUBLIC.search(name.upper()) or _USERINFO.search(value):
        return True
    if _URL.fullmatch(value):
        query = value.partition("?")[2]
        return any(not _PUBLIC_PARAMETER.match(part) for part in query.split("&") if part)
    return not _PUBLIC_VARIABLE.search(name)


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


def _is_long(value: str) -> bool:
    return len(value) >= _LEAST and value.lower() not in _PLACEHOLDERS


def encodings(value: str) -> set[bytes]:
    """What a value may look like in a log: as it is, escaped, or encoded."""
    raw = value.encode(errors="surrogateescape")
    texts = {value, *_quoted(raw)}
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        # In a line of JSON, and in a text of JSON that such a line has.
        texts |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    pieces = {piece for piece in _base64(raw) if len(piece) >= _LEAST_BASE64}
    return pieces | {text.encode(errors="surrogateescape") for text in texts}


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


# What takes the place of a secret.
MASKED = "***"


class Mask:
    """Takes the values of variables that a container got out of what is recorded or shown.

    A value that a job's own command line has stays: it is no secret, and a log's name may have it.
    """

    def __init__(self, variables: Mapping[str, str], *, public: Iterable[str] = ()) -> None:
        shown = " ".join(public)
        texts = {
            form.decode(errors="surrogateescape")
            for value in secret_values(variables)
            if value not in shown
            for form in encodings(value)
        }
        # The longest first, because one may begin with another.
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


# Where nothing was passed in.
NO_MASK = Mask({})


class FoundSecret(msgspec.Struct, frozen=True, kw_only=True):
    """In which line, counted from 1, something secret stands, and what it is; never the value."""

    line: int
    what: str


class Scanner:
    """Looks for secrets in files: values of variables that containers get, and shapes of keys."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._values: dict[bytes, str] = {}
        for value, name in secret_values(variables).items():
            for form in encodings(value):
                self._values.setdefault(form, f"the value of {name}")
        self._overlap = max((_OVERLAP, *map(len, self._values)))

    def find(self, content: bytes) -> FoundSecret | None:
        """The first secret in some lines; None if there is none."""
        found = [
            (position, what)
            for value, what in self._values.items()
            if (position := content.find(value)) >= 0
        ] or [
            (match.start(), what)
            for what, shape in _shapes_in_files()
            if (match := shape.search(content))
        ]
        if not found:
            return None
        position, what = min(found)
        return FoundSecret(line=content.count(b"\n", 0, position) + 1, what=what)

    def find_in(self, path: Path) -> FoundSecret | None:
        """The first secret in a file, of any size."""
        for line, block in _blocks(path, self._overlap):
            if finding := self.find(block):
                return FoundSecret(line=line + finding.line - 1, what=finding.what)
        return None


# Bytes looked at together, and how many at least are looked at twice: no key is as long.
_BLOCK = 2**20
_OVERLAP = 2**13


def _blocks(path: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """A file in pieces, each with the number of its first line.

    The end of each piece, at least as long as the overlap, begins the next one, from the beginning
    of a line if that is not far: so what has newlines in it, such as a key in PEM, is found, too.
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

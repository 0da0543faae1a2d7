import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

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

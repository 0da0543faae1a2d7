import re
from collections.abc import Mapping

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
# what local servers are given that want a key and check none
_PLACEHOLDERS = {
    "",
    "empty",
    "none",
    "null",
    "dummy",
    "test",
    "x",
    "no-key",
    "not-needed",
    "not-needed-by-dummy",
}
_PLAIN_URL = re.compile(r"[a-z]+://[^@?]+$")


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


def secret_values(handed_in: Mapping[str, str]) -> dict[str, str]:
    """Of the variables that containers get, those whose values nobody else should read."""
    return {name: value for name, value in handed_in.items() if _hides(name, value)}


def _hides(name: str, value: str) -> bool:
    """Whether a value is long enough to be told from other text, and is not known to be public."""
    if _PLAIN_URL.match(value):
        return False
    return (
        len(value) >= _LEAST
        and value.lower() not in _PLACEHOLDERS
        and not _PUBLIC_VARIABLE.search(name)
    )


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

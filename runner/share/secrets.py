import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import msgspec

from runner.plan.forms import forms
from runner.plan.secret import secret_values
from runner.record.files import named

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
            for form in forms(value):
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

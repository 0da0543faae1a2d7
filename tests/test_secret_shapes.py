import re
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.secrets import Scanner, holds_secret
from tests.amount import amount
from tests.test_secret_scanner import SHAPES

# Those plugins of detect-secrets whose rules are shapes of keys, not guesses by entropy or names.
PLUGINS = {
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
RULES = {
    f"{module}-{number}": re.compile(rule.pattern, rule.flags & ~re.UNICODE | re.ASCII)
    for module, name in PLUGINS.items()
    for number, rule in enumerate(
        getattr(import_module(f"detect_secrets.plugins.{module}"), name).denylist
    )
}


def known(key: str) -> tuple[bool, bool]:
    """Whether a file and a command line may not have a key."""
    in_file = Scanner({}).find(f"say {key} here\n".encode())
    return in_file is not None, holds_secret(key, "--x", {})


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@settings(max_examples=amount(20, 1000), deadline=None)
@given(data=st.data())
def test_what_detect_secrets_finds_is_known_at_both_doors(
    rule: re.Pattern[str], data: st.DataObject
) -> None:
    """Whatever its rule describes; a later version's new rule is seen here."""
    ascii_only = st.characters(codec="ascii")
    assert known(data.draw(st.from_regex(rule, fullmatch=True, alphabet=ascii_only))) == (
        True,
        True,
    )


@pytest.mark.parametrize("key", SHAPES.values(), ids=SHAPES)
def test_a_key_of_a_known_shape_is_known_at_both_doors(key: str) -> None:
    """A command line and a file are held against one table."""
    assert known(key) == (True, True)

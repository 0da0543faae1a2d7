import pytest

from runner.secrets import holds_secret, secret_values

# Made up, in the providers' shapes; in pieces, so that nothing looks for them here.
KEY = "sk-" + "a1" * 12


def values(name: str, value: str) -> list[str]:
    """What is looked for on account of one variable, in order."""
    return list(secret_values({name: value}))


def test_each_value_has_the_name_of_its_variable() -> None:
    """Public ones are left out, and the rest stays."""
    found = secret_values(
        {"MY_KEY": "hush-hush", "EVALS_THREADS": "12345678", "OTHER": "quiet-please"}
    )
    assert found == {"hush-hush": "MY_KEY", "quiet-please": "OTHER"}


def test_a_value_counts_without_the_blanks_around_it_too() -> None:
    """As where a file's last newline came along."""
    assert values("MY_KEY", "hush-hush\n") == ["hush-hush\n", "hush-hush"]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("http://me:pa55word@h/x", ["pa55word"]),
        ("http://me:pa55:word@h/x", ["pa55:word"]),
        ("http://me:pa%2F55word@h/x", ["pa%2F55word", "pa/55word"]),
        ("http://0123456789abcdef@h/x", ["0123456789abcdef"]),
        ("http://0123456789abcde@h/x", []),
        ("http://0123456789abcdef:@h/x", []),
        ("http://0123456789abcdef:short@h/x", []),
        ("http://twice-it:twice-it@h/x", []),
        ("http://me:database@database/x", []),
        ("http://me:DATABASE@database/x", []),
        ("http://a:first-one@h1,http://b:second-one@h2", ["first-one", "second-one"]),
        ("https://h/c?sv=1&sig=abcdefgh", ["abcdefgh"]),
        ("https://h/c?page=abcdefgh", []),
        ("https://h/c?sig=abcdefgh&token=ijklmnop", ["abcdefgh", "ijklmnop"]),
        ("see https://h/c?sig=abcdefgh", []),
    ],
)
def test_a_part_of_an_address_that_is_secret_alone_counts_too(value: str, parts: list[str]) -> None:
    """A password, a long name without one, a signature: no word that the address has anyway."""
    found = values("MY_KEY", value)
    assert found[0] == value
    assert [each for each in found if "://" not in each] == parts


def test_a_part_is_secret_though_it_stands_in_another_secret_part() -> None:
    """Only what stands openly in the address gives it away."""
    assert "pa55word" in values("DB", "http://me:pa55word@h/x?sig=pa55word-and-more")
    assert "pa55word" in values("DB", "http://pa55word-me:pa55word@h/x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BASE_URL", "https://h/c?a=b"),
        ("BASE_URL", "https://h/c?api-version=1&a=b"),
        ("BASE_URL", "https://u:pw@h/c?region=eu"),
        ("MY_MODEL_KEY", "https://h/path"),
        ("my_model_key", "https://h/path"),
        ("WHATEVER", "eight888"),
        ("A_MODEL_NAME", "gpt-4-turbo"),
    ],
)
def test_what_is_not_known_to_be_public_is_secret(name: str, value: str) -> None:
    """One parameter of an address is enough, and so is a name that says key."""
    assert value in values(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BASE_URL", "https://h/c?api-version=1&region=eu"),
        ("WHATEVER", "https://host/path"),
        ("A_MODEL", "gpt-4-turbo"),
        ("MY_KEY", "seven77"),
        ("MY_KEY", "Not-Needed"),
    ],
)
def test_what_is_known_to_be_public_is_no_secret(name: str, value: str) -> None:
    """An address that says nothing but a version, a model, a placeholder in any case."""
    assert values(name, value) == []


@pytest.mark.parametrize(
    ("token", "before"),
    [
        ("abc123", "--api-key"),
        ("abc123", "-api-key"),
        ("api_key=a=b", "--completion_args"),
        ("x=1,--token=abc", "--args"),
        ("--api_key=a,b", ""),
        ("api-key=abc", ""),
        (f"https://h/{KEY}", ""),
    ],
)
def test_an_argument_is_secret_by_the_name_before_it(token: str, before: str) -> None:
    """An option's, or one within the value, however many `=` follow."""
    assert holds_secret(token, before, {})


@pytest.mark.parametrize(
    ("token", "before"),
    [
        ("abc123", "api_key"),
        ("abc123", "--api-keys"),
        ("x=api_key", "--args"),
        ("--api_key=none", ""),
        ("abc123", "--Xapi_key"),
        ("abc123", "--api_key-"),
        ("hush", "--user"),
    ],
)
def test_an_argument_that_only_resembles_a_secret_is_none(token: str, before: str) -> None:
    """The word before it is no option, or not this one, or what follows is a placeholder."""
    assert not holds_secret(token, before, {})


def test_a_handed_in_value_is_found_whole_or_within() -> None:
    """Within another text only where the variable's name says that it is secret."""
    known = {"MY_TOKEN": "hush-hush", "my_phrase": "quiet-please"}
    assert holds_secret("--x=pre-hush-hush-post", "", known)
    assert holds_secret("--x=quiet-please", "", known)
    assert holds_secret("quiet-please", "--x", known)
    assert holds_secret("a=quiet-please,b=1", "--x", known)
    assert not holds_secret("pre-quiet-please-post", "--x", known)
    assert not holds_secret("something-else", "--x", known)


def test_each_long_line_of_a_value_counts() -> None:
    """A key of several lines is shown line by line."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nshort\n"
    values = secret_values({"THE_KEY": key})
    assert "MIIEvQIBADANBgkqhkiG9w0BAQEF" in values
    assert "short" not in values

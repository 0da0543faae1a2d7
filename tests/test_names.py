import pytest

from runner.errors import UsageError
from runner.model import check_name, check_names


@pytest.mark.parametrize(
    "name", ["gpt-4", "langchain/llm/gpt-4", "a..b", "a b", "é", "x" * 255, "a/" * 149 + "a"]
)
def test_common_names_pass(name: str) -> None:
    """A `/` makes a subfolder, and dots inside a name are just dots."""
    check_name("model", name)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("..", r"has `\.\.`"),
        ("a/../b", r"has `\.\.`"),
        ("/etc/passwd", "absolute"),
        ("a\nb", "cannot be printed"),
        ("a\x00b", "cannot be printed"),
        ("a\udcffb", "cannot be printed"),
        ("a/" * 149 + "ab", "300 characters"),
        ("é" * 128, "255 bytes"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "eval set"])
def test_a_name_that_leads_elsewhere_or_names_no_file_is_refused(
    kind: str, name: str, complaint: str
) -> None:
    """Such a name is a usage error on one printable line that says what it names."""
    with pytest.raises(UsageError, match=complaint) as caught:
        check_name(kind, name)
    assert f"the {kind}'s name" in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_too_long_together_are_refused() -> None:
    """Model and eval set share one file name of 255 bytes, with room for the date of a reset."""
    check_names("m" * 120, "s" * 95)
    with pytest.raises(UsageError, match="too long together") as caught:
        check_names("m" * 120, "s" * 96)
    assert f"`{'m' * 40}...` has 256 bytes" in str(caught.value)
    check_names("folder/" + "m" * 120, "s" * 95)


def test_a_refused_name_is_shown_shortened_and_printable() -> None:
    """Sixty characters of it, as they are or escaped."""
    for name, shown in (
        ("/" + "x" * 59, "/" + "x" * 59),
        ("/" + "x" * 60, "/" + "x" * 59 + "..."),
        ("/\x1b[2J", r"/\x1b[2J"),
    ):
        with pytest.raises(UsageError) as caught:
            check_name("model", name)
        assert f"the model's name `{shown}` " in str(caught.value)


def test_the_message_says_which_of_the_two_names_it_is() -> None:
    """Both stand side by side on the command line."""
    with pytest.raises(UsageError, match="the model's name `/a`"):
        check_names("/a", "s")
    with pytest.raises(UsageError, match="the eval set's name `/a`"):
        check_names("m", "/a")

import pytest

from runner.errors import UsageError
from runner.plan.names import check_name, check_names


@pytest.mark.parametrize("name", ["gpt-4", "langchain/llm/gpt-4", "a..b", "a b", "é", "x" * 255])
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
    with pytest.raises(UsageError, match="too long together"):
        check_names("m" * 120, "s" * 96)
    check_names("folder/" + "m" * 120, "s" * 95)

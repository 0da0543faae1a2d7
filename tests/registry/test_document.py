import pytest
import yaml

from runner.errors import UsageError
from runner.registry.entries import parse_mapping


def refusal(text: str) -> str:
    """The message of the usage error that a file with this text leads to."""
    with pytest.raises(UsageError) as caught:
        parse_mapping("a.yaml", text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("a: [1\nb: 2\n", ", line 2: this is not valid YAML: did not find expected ',' or ']'"),
        ("a: 1\nb: *nowhere", ", line 2: this is not valid YAML: found undefined alias"),
        ("a: \x01", ": this is not valid YAML: control characters are not allowed"),
        (
            "a: 2024-99-99",
            ": this YAML holds a value that cannot be read: month must be in 1..12",
        ),
        ("\n- a", ", line 2: expected a mapping of names, found a list"),
        ("\n\na", ", line 3: expected a mapping of names, found a single value"),
        ("a: 1\n2: 1", ", line 2: a name must be text; put quotes around it"),
        (
            "a: 1\nb: 1\na: 2",
            ", line 3: `a` is already defined at line 1; rename or remove one of them",
        ),
    ],
)
def test_a_broken_file_is_told_with_its_line_and_what_is_wrong(text: str, fact: str) -> None:
    """On one line, and without a line's number where YAML counts none."""
    assert refusal(text) == f"a.yaml{fact}"


def test_a_mapping_that_is_merged_in_at_the_top_adds_its_names() -> None:
    """The names that stand next to it are checked all the same."""
    text = "base: &base\n  a: 1\n<<: *base\nb: 2\n"
    assert parse_mapping("a.yaml", text) == {"base": {"a": 1}, "a": 1, "b": 2}
    assert refusal(text + "b: 3\n").startswith("a.yaml, line 5: `b` is already defined at line 4")


def test_a_name_twice_is_found_wherever_it_stands() -> None:
    """Also next to names that stand once."""
    assert "`b` is already defined at line 2" in refusal("a: 1\nb: 1\nc: 1\nb: 1\n")


@pytest.mark.parametrize("text", ["a: {b: [1, x, null]}", "", "null", "# nothing\n"])
def test_without_libyaml_the_same_is_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every wheel of PyYAML has it."""
    with_it = parse_mapping("a.yaml", text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert parse_mapping("a.yaml", text) == with_it

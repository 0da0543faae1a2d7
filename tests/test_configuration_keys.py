import pytest

from runner.configuration import check_config
from runner.errors import UsageError
from runner.options import RunOptions
from runner.parameters import parameters

NAMES = {"jobs", "progress_dir", "env", "memory", "rpm"}
KNOWN = {each.name: each for each in parameters(RunOptions) if each.name in NAMES}


def test_keys_are_option_names_with_hyphens_or_underscores() -> None:
    """`progress-dir` and `progress_dir` are the same setting."""
    given = {"jobs": 2, "progress-dir": "here", "env": ["A"]}
    settings = check_config(given, source="evalset.toml", known=KNOWN)
    assert settings == {"jobs": 2, "progress_dir": "here", "env": ["A"]}
    assert check_config({"progress_dir": "x"}, source="f", known=KNOWN) == {"progress_dir": "x"}


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        (100, [100]),
        ("gpt-4=20", ["gpt-4=20"]),
        ([100, "gpt-4=20"], [100, "gpt-4=20"]),
    ],
)
def test_a_number_is_one_of_several_values_if_they_are_read(value: object, setting: object) -> None:
    """What reads the text of a rate reads a number, too."""
    assert check_config({"rpm": value}, source="f", known=KNOWN) == {"rpm": setting}


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"job": 2}, "unknown key `job`; did you mean `jobs`"),
        ({"zzz": 2}, "unknown key `zzz`; `evalset run --help`"),
        ({"progress_dir": "a", "progress-dir": "b"}, "twice"),
        ({"env": {"A": "secret"}}, "`env` must be"),
        ({"env": [1]}, "`env` must be"),
        ({"env": 1}, "`env` takes text"),
        ({"rpm": 1.5}, "`rpm` takes text"),
        ({"rpm": True}, "`rpm` takes a value, not true or false"),
    ],
)
def test_a_bad_key_or_value_is_refused(table: dict[str, object], complaint: str) -> None:
    """A usage error names the file and the key, and shows no value."""
    with pytest.raises(UsageError, match=complaint) as caught:
        check_config(table, source="pyproject.toml", known=KNOWN)
    assert str(caught.value).startswith("pyproject.toml: ")
    assert "secret" not in str(caught.value)

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.text import json_line
from tests.report.test_actions import HOSTILE, obeyed

values = st.dictionaries(
    st.text(max_size=5), st.text(max_size=20) | st.sampled_from(HOSTILE) | st.integers(), max_size=3
)


@given(value=values)
def test_the_same_value_comes_back(value: dict[str, object]) -> None:
    """On Actions and elsewhere; and nothing in the line moves a terminal."""
    for actions in ("true", ""):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GITHUB_ACTIONS", actions)
            line = json_line(value)
        assert json.loads(line) == value
        assert all(each.isprintable() for each in line)


@pytest.mark.parametrize("text", HOSTILE)
def test_github_finds_no_command_in_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Whatever an eval has reported."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    line = json_line({text: text})
    assert obeyed(line) == []
    assert json.loads(line) == {text: text}

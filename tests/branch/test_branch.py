import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.branch.progress_branch import default_branch


def git_takes(branch: str) -> bool:
    line = ["git", "check-ref-format", f"refs/heads/{branch}"]
    return subprocess.run(line, check=False).returncode == 0


@pytest.mark.parametrize(
    ("model", "branch"),
    [
        ("gpt-4", "evalset/gpt-4.test-basic"),
        ("org/model", "evalset/org/model.test-basic"),
    ],
)
def test_a_plain_name_stays_as_it_is(model: str, branch: str) -> None:
    """The branch can be guessed from model and eval set."""
    assert default_branch(model, "test-basic") == branch


@settings(max_examples=60, deadline=None)
@given(
    model=st.text(
        st.one_of(st.sampled_from("a.-/@{~^:?*[\\ "), st.characters(codec="utf-8")), min_size=1
    ).filter(lambda text: "\0" not in text)
)
def test_git_takes_every_name(model: str) -> None:
    """Whatever the model is called, a branch can be made for it."""
    assert git_takes(default_branch(model, "s"))


def test_two_names_that_git_does_not_take_get_two_branches() -> None:
    """A hash keeps apart what looks alike."""
    names = {default_branch(model, "s") for model in ("gpt-4:a", "gpt-4*a", "gpt-4-a")}
    assert len(names) == 3

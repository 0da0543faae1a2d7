from pathlib import Path

import pytest

from tests.branch.desk import git
from tests.commands.conftest import PROGRESS, Here
from tests.commands.repositories import BRANCH, NAMES, TAKE

VALUE = "hunter2-hunter2"
LINE = f'["oaieval", "dummy", "{VALUE}"]\n'


@pytest.mark.parametrize("given", ["name", "short name", "file"])
def test_variables_can_be_named_whose_values_are_kept_out(
    here: Here, repository: Path, given: str
) -> None:
    """A snapshot that is taken by hand does not know what a run passed in."""
    here.put(f"progress/oaievalset/{'.'.join(NAMES)}.progress.txt", PROGRESS + LINE)
    options = {
        "name": ["--env", "MYVAR"],
        "short name": ["-e", "MYVAR"],
        "file": ["--env-file", str(here.put("variables", f"MYVAR={VALUE}\n"))],
    }
    taken = here.evalset(*TAKE, *options[given], MYVAR=VALUE)
    assert taken.returncode == 0, taken.stderr
    assert "line 3 is left out of the snapshots: it holds what looks like" in taken.stderr
    assert VALUE not in git(repository, "log", "--patch", BRANCH)


def test_a_variable_that_is_not_set_cannot_be_kept_out(here: Here, repository: Path) -> None:
    """The line says so, for otherwise its value would go to the branch."""
    assert repository
    assert "the variable MYVAR is not set" in here.refused(*TAKE, "--env", "MYVAR")

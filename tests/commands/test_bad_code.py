"""Folders of code and files of requirements that cannot be: one line each, without an engine."""

import pytest

from tests.commands.conftest import Here

RUN = ("run", "dummy", "mine", "--registry-path", "own")


@pytest.fixture
def here(here: Here) -> Here:
    """A folder with some code, good and bad."""
    here.put("code/mine/__init__.py", "")
    here.put("same/mine.py", "")
    here.put("data/samples.jsonl", "")
    here.put("src-layout/src/mine/__init__.py", "")
    here.put("progress/evallogs/mine/__init__.py", "")
    here.put("bad.txt", "one\n-e ./code\n")
    here.put("pyproject.toml", "[tool.other]\n")
    return here


@pytest.mark.parametrize(
    ("options", "fact", "cure"),
    [
        (["--code", "none"], "/none does not exist", "check --code"),
        (["--code", "bad.txt"], "/bad.txt is a file, not a folder", "check --code"),
        (
            ["--code", "data"],
            "/data has no Python package and no module",
            "that your package is in",
        ),
        (
            ["--code", "code/mine"],
            "/code/mine is itself a package",
            "name the folder that it is in",
        ),
        (
            ["--code", "src-layout"],
            "/src-layout has its packages in src",
            "/src-layout/src instead",
        ),
        (
            ["--code", "code", "--code", "same"],
            "two code folders have `mine`",
            "rename the package",
        ),
        (
            ["--code", "code", "--progress-dir", "code"],
            "/code, where runs write",
            "another --progress-dir",
        ),
        (
            ["--code", "progress/evallogs"],
            "/progress/evallogs, where runs write",
            "move it elsewhere",
        ),
        (
            ["--requirements", "none"],
            "--requirements none: there is no such file",
            "check its path",
        ),
        (["--requirements", "code"], "--requirements code: is a folder", "check its path"),
        (
            ["--requirements", "bad.txt"],
            "bad.txt, line 2: `-e` cannot be used",
            "with --code instead",
        ),
        (["--requirements", "pyproject.toml"], "no list of `dependencies`", "a requirements file"),
    ],
)
def test_an_option_that_cannot_be(here: Here, options: list[str], fact: str, cure: str) -> None:
    """The line has what is wrong, and what would be right."""
    line = here.refused(*RUN, *options)
    assert fact in line
    assert cure in line


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ("code: code", "`code`: must be a list of folders; put [ ] around it"),
        ("code: [5]", "`code`: `5` is not a path; give one as text"),
        ("code: [none]", "the code folder {folder}/own/none does not exist"),
        ("code: [../code, ../same]", "two code folders have `mine`"),
        ("requirements: [a]", "`requirements`: `['a']` is not a path"),
        ("requirements: none.txt", "--requirements {folder}/own/none.txt: there is no such file"),
    ],
)
def test_a_rule_that_cannot_be(here: Here, rule: str, fact: str) -> None:
    """A rule's paths start at its registry folder; two rules may each have one of the packages."""
    here.put("own/containers/mine.yaml", f"a*: {{{rule}}}\n")
    assert fact.format(folder=here.folder) in here.refused(*RUN)


def test_a_variable_and_a_file_are_no_different(here: Here) -> None:
    """What they name is checked in the same way."""
    assert "does not exist" in here.refused(*RUN, EVALSET_CODE="code:none")
    here.put("evalset.toml", 'code = ["code", "same"]\n')
    assert "two code folders have `mine`" in here.refused(*RUN)


def test_the_drop_in_is_no_different(here: Here) -> None:
    """It takes the same from variables and files."""
    ended = here.oaievalset("dummy", "mine", EVALSET_CODE="none", EVALSET_PROGRESS_DIR="progress")
    assert ended.returncode == 2
    assert "the code folder" in ended.stderr

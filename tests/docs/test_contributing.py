import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contributing.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
TESTS = [line for line in LINES if "pytest" in line]


def targets() -> list[str]:
    """The targets that the Makefile says are no files."""
    found = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1].split()


def test_the_table_of_targets_is_complete() -> None:
    """Each target of the Makefile has its line, and no other has one."""
    table = PAGE.partition("<!-- make -->")[2].partition("<!-- /make -->")[0]
    assert sorted(re.findall(r"^\| `make ([\w-]+)` \|", table, re.MULTILINE)) == sorted(targets())


def test_what_is_not_a_target_is_not_spoken_of() -> None:
    """In the README neither."""
    for text in (PAGE, (ROOT / "README.md").read_text()):
        named = re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", text, re.MULTILINE)
        assert {one or other for one, other in named} <= set(targets())


@pytest.mark.parametrize("line", TESTS)
def test_the_ways_to_run_tests_find_some(line: str) -> None:
    """Each is typed as it is shown, and would run tests."""
    ended = subprocess.run(
        [*shlex.split(line), "--collect-only", "-qq", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "tests/plan/test_shard.py: " in ended.stdout


def test_one_test_runs_as_it_is_shown() -> None:
    """And it is not lost among others."""
    (line,) = [line for line in TESTS if " -k " in line]
    ended = subprocess.run(shlex.split(line), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"\b[1-9] passed", ended.stdout)


def test_every_other_line_names_what_is_there() -> None:
    """A target of make, or a script with what it takes."""
    for line in set(LINES) - set(TESTS):
        program, *words = shlex.split(line)
        assert (program == "make" and words[0] in targets()) or (ROOT / program).exists(), line
    for page, package in re.findall(r"`((?:runner|tests)/[\w/]+(?:\.py)?)(/?)`", PAGE):
        assert (ROOT / page).exists() or "frob" in page, page + package

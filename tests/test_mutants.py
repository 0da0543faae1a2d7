import json
from pathlib import Path

import pytest

from tests.mutants import (
    REASONS,
    ROOT,
    Mutant,
    Reason,
    outdated,
    read_mutants,
    read_reasons,
    table,
    unexplained,
)

# What mutmut makes of a function and of a method.
SOURCE = """
def x_add__mutmut_orig(a: int, b: int = 1):
    return a + b
def x_add__mutmut_1(a: int, b: int = 2):
    return a + b
def x_add__mutmut_2(a: int, b: int = 1):
    return a - b
class Sum:
    def xǁSumǁ_of__mutmut_orig(self) -> int:
        return max(
            1,
            2,
        )
    def xǁSumǁ_of__mutmut_1(self) -> int:
        return max(
            2,
        )
"""
CODES = {
    "runner.plan.sums.x_add__mutmut_1": 0,
    "runner.plan.sums.x_add__mutmut_2": 1,
    "runner.plan.sums.xǁSumǁ_of__mutmut_1": 33,
}
SURVIVOR = Mutant(function="plan/a.py f", old="x + 1", new="x + 2", ended="survived")
KILLED = Mutant(function="plan/a.py f", old="x + 1", new="x - 1", ended="killed")


def test_mutants_are_read_with_what_they_change(tmp_path: Path) -> None:
    """Of functions and of methods, by names that stay when others are added."""
    path = tmp_path / "runner/plan/sums.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    path.with_name("sums.py.meta").write_text(json.dumps({"exit_code_by_key": CODES}))
    assert [(mutant.name, mutant.ended) for mutant in read_mutants(tmp_path)] == [
        (
            "plan/sums.py add: def (a: int, b: int = 1): => def (a: int, b: int = 2):",
            "survived",
        ),
        ("plan/sums.py add: return a + b => return a - b", "killed"),
        ("plan/sums.py Sum._of: 1, => ", "untested"),
    ]


@pytest.mark.parametrize(
    "reason",
    [
        Reason(kind="Same", why="No input shows it.", mutants=(SURVIVOR.name,)),
        Reason(kind="Same", why="No input shows it.", like=(r"plan/a\.py f: .* => x \+ .",)),
    ],
)
def test_a_survivor_with_a_reason_is_explained(reason: Reason) -> None:
    """By its name or by a pattern, and the reason is up to date."""
    assert unexplained([SURVIVOR, KILLED], [reason]) == []
    assert outdated([SURVIVOR, KILLED], [reason]) == []


def test_a_survivor_without_a_reason_is_not_hidden() -> None:
    """And a reason whose mutant is noticed now is outdated."""
    reason = Reason(kind="Same", why="No input shows it.", mutants=(KILLED.name,))
    assert unexplained([SURVIVOR, KILLED], [reason]) == [SURVIVOR]
    assert outdated([SURVIVOR, KILLED], [reason]) == [KILLED.name]


def test_mutants_are_counted_for_each_file() -> None:
    """By how their tests ended, with a sum."""
    rows = [line.split() for line in table([SURVIVOR, KILLED]).splitlines()]
    assert rows == [
        ["mutants", "killed", "timeout", "survived", "untested"],
        ["plan/a.py", "2", "1", "0", "1", "0"],
        ["all", "2", "1", "0", "1", "0"],
    ]


def test_reasons_name_files_that_are_there() -> None:
    """A file that moved takes its reasons along."""
    names = {name.partition(" ")[0] for each in read_reasons(REASONS) for name in each.mutants}
    assert names
    assert [name for name in sorted(names) if not (ROOT / "runner" / name).is_file()] == []

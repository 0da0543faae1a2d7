import json
from pathlib import Path

import pytest

from tests.mutants import PAGE, REASONS, Mutant, Reason, page, read_mutants, read_reasons

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
        Reason(kind="Same", why="For no reason.", mutants=(SURVIVOR.name,)),
        Reason(kind="Same", why="For no reason.", like=(r"plan/a\.py f: .* => x \+ .",)),
    ],
)
def test_a_survivor_stands_below_its_reason(reason: Reason) -> None:
    """With the line that was changed and what it became; what was killed is only counted."""
    text = page([SURVIVOR, KILLED], [reason], "commit 1")
    assert "| plan/a.py | 2 | 1 | 0 | 1 | 0 |" in text
    assert "## Same\n\nFor no reason.\n\n```diff\n  plan/a.py f\n- x + 1\n+ x + 2\n```" in text
    assert "x - 1" not in text
    assert "Not looked at" not in text


def test_a_survivor_without_a_reason_is_not_hidden() -> None:
    """It comes first, and reasons that cover nothing are left out."""
    text = page([SURVIVOR], [Reason(kind="Same", why="For no reason.")], "commit 1")
    assert "## Not looked at yet\n\n```diff\n  plan/a.py f\n- x + 1\n+ x + 2\n```" in text
    assert "For no reason" not in text


def test_the_page_is_made_of_the_reasons_that_are_here() -> None:
    """Each reason that the page gives stands in the file, so that the next run gives it again."""
    text = PAGE.read_text()
    kinds = {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}
    assert kinds - {"Timeouts"} <= {reason.kind for reason in read_reasons(REASONS)}

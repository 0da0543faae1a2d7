"""Prints what `make mutants` left in mutants/, and which survivors tests/mutants.toml explains."""

import ast
import difflib
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "mutants"
REASONS = Path(__file__).with_name("mutants.toml")

# mutmut's exit codes of the tests; any other is shown as it is
_KILLED = {1: "killed", 3: "killed"}
_TIMEOUT = dict.fromkeys((-24, 24, 36, 152, 255), "timeout")
ENDED = {**_KILLED, **_TIMEOUT, 0: "survived", 5: "untested", 33: "untested"}
COLUMNS = ("killed", "timeout", "survived", "untested")
# A test that does not end in time has noticed, too: most such mutants are endless loops.
NOTICED = ("killed", "timeout")


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One small change of a function, and what the tests said to it.

    Attributes:
        function: file below runner/, and name.
        old: the lines that were changed.
        new: what they became.
        ended: one of `COLUMNS`, or the exit code where that tells nothing.
    """

    function: str
    old: str
    new: str
    ended: str

    @property
    def name(self) -> str:
        """What reasons call it; the same as long as these lines stay as they are."""
        return f"{self.function}: {self.old} => {self.new}"


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why some mutants survive.

    Attributes:
        kind: a word or two.
        why: for people.
        mutants: their names.
        like: regular expressions of whole names.
    """

    kind: str
    why: str
    mutants: tuple[str, ...] = ()
    like: tuple[str, ...] = ()

    def covers(self, mutant: Mutant) -> bool:
        """Whether it is the reason of this one."""
        return mutant.name in self.mutants or any(
            re.fullmatch(each, mutant.name) for each in self.like
        )


def read_mutants(results: Path) -> list[Mutant]:
    """What mutmut found, by file and function."""
    found = []
    for meta in sorted(results.glob("runner/**/*.py.meta")):
        path = meta.with_suffix("")
        codes: dict[str, int | None] = msgspec.json.decode(meta.read_bytes())["exit_code_by_key"]
        functions = _functions(path.read_text())
        file = str(path.relative_to(results / "runner"))
        for key, code in codes.items():
            mangled = key.rpartition(".")[2]
            original = f"{mangled.rpartition('__mutmut_')[0]}__mutmut_orig"
            name = original.removesuffix("__mutmut_orig").removeprefix("x")
            old, new = _change(functions[original], functions[mangled])
            found.append(
                Mutant(
                    function=f"{file} {name.removeprefix('_').strip('ǁ').replace('ǁ', '.')}",
                    old=old,
                    new=new,
                    ended=str(code) if code is None else ENDED.get(code, str(code)),
                )
            )
    return found


def _functions(text: str) -> dict[str, list[str]]:
    """The lines of each function, by its mangled name, without that name."""
    lines = text.splitlines()
    return {
        node.name: [
            line.strip().replace(node.name, "", 1)
            for line in lines[node.lineno - 1 : node.end_lineno]
        ]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }


def _change(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, joined by spaces."""
    old: list[str] = []
    new: list[str] = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        if kind != "equal":
            old += before[start:end]
            new += after[other_start:other_end]
    return " ".join(old), " ".join(new)


def read_reasons(path: Path) -> list[Reason]:
    """The reasons that people have found."""
    return msgspec.convert(tomllib.loads(path.read_text())["reason"], list[Reason])


def unexplained(mutants: Iterable[Mutant], reasons: Sequence[Reason]) -> list[Mutant]:
    """Those that no test notices and no reason covers."""
    return [
        mutant
        for mutant in mutants
        if mutant.ended not in NOTICED and not any(each.covers(mutant) for each in reasons)
    ]


def outdated(mutants: Iterable[Mutant], reasons: Sequence[Reason]) -> list[str]:
    """Names in the reasons of which no mutant survives any more."""
    surviving = {mutant.name for mutant in mutants if mutant.ended not in NOTICED}
    return sorted({name for each in reasons for name in each.mutants} - surviving)


def table(mutants: Sequence[Mutant]) -> str:
    """How the mutants of each file ended."""
    groups = {
        file: list(group)
        for file, group in groupby(mutants, lambda mutant: mutant.function.partition(" ")[0])
    }
    width = max(map(len, [*groups, "all"]))
    lines = [" ".join(["".ljust(width), *(column.rjust(9) for column in ("mutants", *COLUMNS))])]
    for name, group in [*groups.items(), ("all", mutants)]:
        counts = Counter(mutant.ended for mutant in group)
        figures = (len(group), *(counts[column] for column in COLUMNS))
        lines.append(" ".join([name.ljust(width), *(f"{figure:9}" for figure in figures)]))
    return "\n".join(lines)


def main() -> int:
    """Print what mutmut found; exit with 1 if nothing ran or a survivor has no reason."""
    mutants, reasons = read_mutants(RESULTS), read_reasons(REASONS)
    print(table(mutants))
    for name in outdated(mutants, reasons):
        print(f"no longer survives; remove it from {REASONS.name}: {name}")
    left = unexplained(mutants, reasons)
    for mutant in left:
        print(f"{mutant.ended}: {mutant.name}")
    noticed = sum(mutant.ended in NOTICED for mutant in mutants)
    print(
        f"tests noticed {noticed} of {len(mutants)} mutants; {len(left)} survivors have no reason"
    )
    return 1 if left or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())

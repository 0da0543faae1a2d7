"""Writes docs/mutants.md from what `make mutants` left in mutants/, and from tests/mutants.toml."""

import ast
import difflib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "mutants"
REASONS = Path(__file__).with_name("mutants.toml")
PAGE = ROOT / "docs" / "mutants.md"

# mutmut's exit codes of the tests: whatever is not here is told as it is
_KILLED = {1: "killed", 3: "killed"}
_TIMEOUT = dict.fromkeys((-24, 24, 36, 152, 255), "timeout")
ENDED = {**_KILLED, **_TIMEOUT, 0: "survived", 5: "untested", 33: "untested"}
COLUMNS = ("killed", "timeout", "survived", "untested")


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
        kind: heading that it stands below.
        why: for people, in Markdown.
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


def page(mutants: Sequence[Mutant], reasons: Sequence[Reason], commit: str) -> str:
    """The list of what survives, grouped by reason; those without one come first."""
    left = [mutant for mutant in mutants if mutant.ended not in ("killed", "timeout")]
    unknown = [one for one in left if not any(each.covers(one) for each in reasons)]
    sections = [_table(mutants, commit)]
    if unknown:
        sections.append("## Not looked at yet\n\n" + _listed(unknown))
    for kind, group in groupby(sorted(reasons, key=lambda each: each.kind), lambda each: each.kind):
        parts = [
            f"{each.why.strip()}\n\n{_listed(covered)}"
            for each in group
            if (covered := [one for one in left if each.covers(one)])
        ]
        if parts:
            sections.append("\n".join([f"## {kind}\n", *parts]))
    if endless := [mutant for mutant in mutants if mutant.ended == "timeout"]:
        sections.append(f"## Timeouts\n\n{ENDLESS}\n\n{_listed(endless)}")
    return "\n".join(sections)


def _table(mutants: Sequence[Mutant], commit: str) -> str:
    rows = [
        f"| {name} | {len(group)} | " + " | ".join(map(str, _counts(group))) + " |"
        for name, group in [
            *((f"{file}", list(of)) for file, of in groupby(mutants, _file)),
            ("**all**", list(mutants)),
        ]
    ]
    counts = Counter(mutant.ended for mutant in mutants)
    share = (counts["killed"] + counts["timeout"]) / max(1, len(mutants))
    head = TEMPLATE.format(commit=commit, count=len(mutants), share=f"{share:.1%}")
    return "\n".join([head, *rows, ""])


def _file(mutant: Mutant) -> str:
    return mutant.function.partition(" ")[0]


def _counts(mutants: Iterable[Mutant]) -> Iterator[int]:
    counts = Counter(mutant.ended for mutant in mutants)
    return (counts[column] for column in COLUMNS)


def _listed(mutants: Iterable[Mutant]) -> str:
    """Each line that was changed once, with all that it became."""
    lines = ["```diff"]
    for function, group in groupby(mutants, lambda mutant: mutant.function):
        lines.append(f"  {function}")
        for old, same in groupby(group, lambda mutant: mutant.old):
            lines += [f"- {old}", *(f"+ {mutant.new}" for mutant in same)]
    return "\n".join([*lines, "```", ""])


ENDLESS = "Most are loops that no longer end; they count as noticed."
TEMPLATE = """\
# Mutants

A mutation check changes the code in small ways, one at a time, and runs the tests against each
change, a mutant. One that no test notices survives: a test is missing, the code does nothing, or
the change makes no difference. `make mutants` does this for `runner/plan` and `runner/record` with
mutmut, and writes this page: counts and mutants are what it found, the reasons are those in
`tests/mutants.toml`. It exits with an error when a mutant is left that has no reason there.

At {commit}, {share} of {count} mutants were noticed.

A timeout is a mutant whose tests did not come to an end in time: noticed, too. An untested one is
reached by none of the tests that were run; those are the tests of both folders and a few more, as
far as they run in one process and without an engine. So what only a process apart or a container
shows counts as not noticed here.

What mutmut leaves alone is not in these numbers: values at the top of a module, regular
expressions among them; f-strings; defaults that are no plain value; and functions with a
decorator, such as properties and context managers.

| file | mutants | killed | timeouts | survived | untested |
|---|---|---|---|---|---|"""


def main() -> int:
    """Write the page; exit 1 if a mutant that is left has no reason, or was not run."""
    mutants, reasons = read_mutants(RESULTS), read_reasons(REASONS)
    PAGE.write_text(page(mutants, reasons, _commit()))
    left = [mutant for mutant in mutants if mutant.ended not in ("killed", "timeout")]
    names = {mutant.name for mutant in left}
    for name in sorted({name for each in reasons for name in each.mutants} - names):
        print(f"no longer survives, take it out of {REASONS.name}: {name}")
    unknown = [one for one in left if not any(each.covers(one) for each in reasons)]
    for mutant in unknown:
        print(f"{mutant.ended}: {mutant.name}")
    print(
        f"{len(mutants)} mutants, {len(left)} left, {len(unknown)} of them without a reason; "
        f"see {PAGE.relative_to(ROOT)}"
    )
    return 1 if unknown or not mutants else 0


def _commit() -> str:
    """What was measured; the page itself does not count."""
    line = ["git", "log", "-1", "--format=%h", "--", "runner", "tests", "pyproject.toml"]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    line = ["git", "status", "--porcelain", "--", "runner", "tests", "pyproject.toml"]
    changed = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    commit = f"commit `{said.stdout.strip()}`" if said.stdout.strip() else "no commit"
    return f"{commit} with changes" if changed.stdout else commit


if __name__ == "__main__":
    sys.exit(main())

import random
from typing import cast

import pytest

from runner.errors import UsageError
from runner.plan.grammar import get_parser, split, without_dashes
from tests.compat.upstream import ask

pytestmark = pytest.mark.upstream

TOKENS = [
    *(
        "m",
        "s",
        "x",
        "-5",
        "",
        "-",
        "a b",
        "-x",
        "-x y",
        "-hx",
        "é",
        "--",
        "--",
        "--foo",
        "--foo=1",
    ),
    *("--registry_path", "--registry_path=p", "--registry_path=", "--reg", "--reg=p"),
    *("--resume", "--no-resume", "--res", "--no-res", "--resume=1", "--re", "--no"),
    *("--exit-on-error", "--no-exit-on-error", "--exit", "--no-e", "--e", "--help", "-h", "--he"),
    *("--max_samples", "5", "--dry-run", "---", "--=", "-=x", "--registry_path p"),
]
TABLE = [
    [],
    ["m"],
    ["m", "s"],
    ["m", "s", "--max_samples", "5"],
    ["--max_samples", "5", "gpt-4", "test"],
    ["m", "s", "--", "--dry-run"],
    ["m", "--", "s", "--dry-run"],
    ["--", "m", "s", "--dry-run"],
    ["m", "s", "--foo", "--", "x"],
    ["m", "s", "--", "--", "x"],
    ["--", "m", "--", "s"],
    ["m", "s", "--registry_path", "a", "--registry_path", "b"],
    ["m", "s", "--registry_path"],
    ["m", "s", "--re"],
    ["m", "s", "--resume", "--no-resume"],
    ["--help"],
]


def command_lines() -> list[list[str]]:
    """The table, and random command lines, the same every time."""
    dice = random.Random(20240115)  # noqa: S311 - it keeps no secret
    lines = [dice.choices(TOKENS, k=dice.randrange(8)) for _ in range(1500)]
    lines += [["m", "s", *dice.choices(TOKENS, k=dice.randrange(6))] for _ in range(1500)]
    return TABLE + lines


@pytest.fixture(scope="module")
def answers() -> list[tuple[list[str], dict[str, object]]]:
    """What upstream's own parser makes of each command line."""
    lines = command_lines()
    return list(zip(lines, ask([("parse", line) for line in lines]), strict=True))


def by_the_drop_in(line: list[str]) -> dict[str, object]:
    """What our parser makes of a command line, in the form of upstream's side."""
    try:
        args, unknown = get_parser().parse_known_args(line)
    except SystemExit as ended:
        return {"exit": ended.code}
    return {"args": vars(args), "unknown": unknown}


def test_the_drop_in_parses_as_upstream(
    answers: list[tuple[list[str], dict[str, object]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """For any command line, the drop-in's names, options and rest are upstream's."""
    for line, theirs in answers:
        assert by_the_drop_in(line) == theirs, line
    capsys.readouterr()


def test_evalset_parses_as_upstream(answers: list[tuple[list[str], dict[str, object]]]) -> None:
    """For any command line without our own options, `evalset run` agrees but for the `--`."""
    for line, theirs in answers:
        try:
            ours = split(line, {"--jobs": 1, "-e": 1})
        except UsageError:
            assert theirs == {"exit": 2}, line
            continue
        if ours.ours:
            assert ours.ours == ("--help",), line
            assert theirs == {"exit": 0}, line
            continue
        args = {
            "model": ours.model,
            "eval_set": ours.eval_set,
            "registry_path": list(ours.registry_paths) or None,
            "resume": ours.resume is not False,
            "exit_on_error": ours.exit_on_error is not False,
        }
        unknown = without_dashes(line, cast("list[str]", theirs["unknown"]))
        assert {"args": args, "unknown": unknown} == theirs | {"unknown": ours.passed_through}, line

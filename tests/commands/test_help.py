import json
import re
import subprocess
import sys

import click
import pytest

import runner
from runner.cli import COMMANDS, evalset
from tests.commands.conftest import Here

HEAVY = (
    "aiohttp",
    "docker",
    "git",
    "jinja2",
    "msgspec",
    "requests",
    "rich",
    "scipy",
    "uvloop",
    "yaml",
)
LOADED = """
import json, sys
from runner.cli import main
sys.argv = ["evalset", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), ["image", "build"], ["image", "show"]]
)
def test_every_command_has_help_with_an_example(here: Here, command: list[str]) -> None:
    """Exit code 0, on stdout, with what it does and how it is called."""
    ended = here.evalset(*command, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(" ".join(["Usage: evalset", *command]))
    assert f"Example: {' '.join(['evalset', *command])}" in " ".join(ended.stdout.split())


def test_the_short_form_of_help_works(here: Here) -> None:
    """As most programs have it."""
    assert here.evalset("-h").stdout == here.evalset("--help").stdout


def test_the_many_options_of_run_have_headings(here: Here) -> None:
    """Each of the topics has its own, and that for help is not below the last of them."""
    shown = here.evalset("run", "--help").stdout
    headings = re.findall(r"^(\S.+):$", shown, re.MULTILINE)
    assert headings == [
        "What to run",
        "What each eval gets",
        "Model and money",
        "When something goes wrong",
        "What is kept",
        "Snapshots on a Git branch",
        "Other",
    ]
    assert shown.partition("Other:")[2].split()[0] == "-h,"
    options = shown.partition("When something goes wrong:")[2].partition("What is kept:")[0]
    assert "--retries N" in options
    assert "--select" not in options


def test_every_command_is_listed(here: Here) -> None:
    """With the line that says what it is for."""
    text = " ".join(here.evalset("--help").stdout.split())
    for name in COMMANDS:
        command = evalset.get_command(click.Context(evalset), name)
        assert command is not None
        purpose = " ".join((command.help or "").partition("\n")[0].split())
        assert purpose
        assert f"{name} {purpose}" in text


@pytest.mark.parametrize("group", ["image", "data", "snapshot"])
def test_a_group_lists_whole_lines(here: Here, group: str) -> None:
    """Click would end those that are long with three dots."""
    text = " ".join(here.evalset(group, "--help").stdout.split())
    commands = evalset.get_command(click.Context(evalset), group)
    assert isinstance(commands, click.Group)
    for name, command in commands.commands.items():
        assert f"{name} {(command.help or '').partition(chr(10))[0]}" in text


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_is_fast_because_it_imports_little(here: Here, argument: str) -> None:
    """What takes time to import is imported where it is used."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, argument],
        capture_output=True,
        text=True,
        check=False,
        env=here.environ,
    )
    code, loaded = json.loads(ended.stderr)
    assert code == 0
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_the_version_is_told(here: Here) -> None:
    """For reports of bugs."""
    assert here.evalset("--version").stdout == f"evalset {runner.__version__}\n"


def test_a_bad_configuration_does_not_keep_help_from_being_shown(here: Here) -> None:
    """Who is told to look at `--help` finds it."""
    here.put("evalset.toml", "colour = 3\n")
    ended = here.evalset("run", "--help")
    assert ended.returncode == 0
    assert "--registry-path" in ended.stdout

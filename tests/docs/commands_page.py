"""Writes what docs/ has of the command lines from these themselves; `make docs` calls it.

That is the page of commands, and what a page has of variables and keys.
"""

import argparse
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli import evalset
from runner.commands.command_line import EvalsetCommand
from runner.commands.run import command as run_command
from runner.plan.grammar import get_parser

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "commands.md"
CONFIGURATION = DOCS / "configuration.md"

HEAD = """\
# Commands

`make docs` writes this page from each command's `--help`, and a test checks that they agree: change
the help, not this page. [Configuration](configuration.md) says how the options of `evalset run`
work together, which files can set them, and what the exit codes mean.
"""
WIDTH = 100
LINE = 110  # of a page
COMMANDS = "| command | what it does |\n|---|---|\n"
VARIABLES = """\
| variable | key in a file | option of `evalset run` | other commands with it |
|---|---|---|---|
"""
TABLE = "| option | default | variable | what it does |\n|---|---|---|---|\n"


def page() -> str:
    """The page as it is to be."""
    return "\n".join([HEAD, *_command(evalset, None, "evalset"), *_drop_in(get_parser())])


def with_variables(text: str) -> str:
    """A page with all about variables and keys between its marks as it is to be."""
    head, mark, rest = text.partition("<!-- variables -->\n")
    _, end, tail = rest.partition("<!-- /variables -->")
    return "".join((head, mark, VARIABLES, *_variables(), "\n", *_values(), end, tail))


def _variables() -> Iterator[str]:
    others: dict[object, list[str]] = {}
    for name, command in commands():
        for param in command.params:
            if command is not run_command:
                others.setdefault(param.envvar, []).append(f"`{name}`")
    for option in run_command.params:
        if isinstance(option, click.Option) and option.envvar:
            spellings = ", ".join(f"`{each}`" for each in (*option.opts, *option.secondary_opts))
            key = f"{option.name}".replace("_", "-")
            found = ", ".join(others.get(option.envvar, []))
            yield _row((f"`{option.envvar}`", f"`{key}`", spellings, found))


def _values() -> Iterator[str]:
    """What the variables take that do not take one value as it is typed."""
    given = [each for each in run_command.parameters if each.configurable]
    switches = [each for each in given if each.type is bool]
    several = [each for each in given if each.multiple]
    folders = [each for each in several if each.kind and each.kind.is_path]
    texts = [each for each in several if each not in folders]
    for those, take in (
        (switches, "`true` or `false`, `1` or `0`"),
        (texts, "several values, separated by blanks"),
        (folders, "several folders, separated by `:` as in `PATH`"),
    ):
        *names, last = (f"`EVALSET_{each.name.upper()}`" for each in those)
        text = f"* {', '.join(names)} and {last} take {take}."
        yield textwrap.fill(text, LINE, subsequent_indent="  ") + "\n"


def commands(group: click.Group = evalset) -> Iterator[tuple[str, click.Command]]:
    """Each command below a group, groups among them, and what is typed for it behind that."""
    for name, found in _below(group, click.Context(group)):
        yield name, found
        if isinstance(found, click.Group):
            yield from ((f"{name} {each}", below) for each, below in commands(found))


def _command(command: click.Command, parent: click.Context | None, name: str) -> Iterator[str]:
    context = command.context_class(
        command, parent=parent, info_name=name, **command.context_settings
    )
    yield f"## {context.command_path}\n"
    pieces = command.collect_usage_pieces(context)
    yield _code("text", f"{context.command_path} {' '.join(pieces)}")
    yield _prose(inspect.cleandoc(command.help or ""))
    options = [each for each in command.params if isinstance(each, click.Option)]
    # click makes that for help once, with the spellings of whatever context asked for it first.
    spellings = ", ".join(f"`{each}`" for each in context.help_option_names)
    sections = command.sections if isinstance(command, EvalsetCommand) else {}
    tables: dict[str, list[tuple[str, str, str, str]]] = {}
    heading = ""
    for option in options:
        heading = sections.get(option.name or "", heading)
        tables.setdefault(heading, []).append(_option(option, context))
    about_help = (spellings, "", "", "Show this message and exit.")
    tables.setdefault("Other" if sections else "", []).append(about_help)
    for heading, shown in tables.items():
        yield (f"{heading}:\n\n" if heading else "") + TABLE + "".join(map(_row, shown))
    for paragraph in (command.epilog or "").split("\n\n"):
        example = paragraph.removeprefix("Example: ")
        yield _code("sh", example) if example != paragraph else _prose(paragraph)
    if isinstance(command, click.Group):
        below = list(_below(command, context))
        names = [f"{context.command_path} {each}" for each, _ in below]
        yield COMMANDS + "".join(map(_link, names, [found for _, found in below]))
        for each, found in below:
            yield from _command(found, context, each)


def _below(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield name, found


def _link(name: str, command: click.Command) -> str:
    about = command.get_short_help_str(limit=WIDTH).rstrip(".")
    return _row((f"[`{name}`](#{name.replace(' ', '-')})", about))


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str, str]:
    spellings = [*option.opts, *option.secondary_opts]
    value = (
        ""
        if option.is_flag or option.count
        else f" {option.make_metavar(context)}".replace(" RANGE", "")
    )
    extra = option.get_help_extra(context)
    text, _, shown = (option.help or "").partition("  [default: ")
    default = shown.rstrip("]") or extra.get("default", "")
    limits = f" [{extra['range']}]" if "range" in extra else ""
    variable = f"`{option.envvar}`" if option.envvar else ""
    return ", ".join(f"`{each}{value}`" for each in spellings), default, variable, text + limits


def _drop_in(parser: argparse.ArgumentParser) -> Iterator[str]:
    parser.prog = "oaievalset"
    actions = [each for each in parser._actions if each.option_strings]
    yield "## oaievalset\n"
    names = [each.dest.upper() for each in parser._actions if not each.option_strings]
    yield _code("text", " ".join(["oaievalset [OPTIONS]", *names, "[ARGS]..."]))
    yield _prose(parser.description or "")
    yield TABLE + "".join(
        _row((", ".join(f"`{each}`" for each in action.option_strings), "", "", action.help or ""))
        for action in actions
    )
    yield _code("sh", "oaievalset gpt-4 test-basic --max_samples 25").rstrip("\n")
    yield ""


def _row(cells: tuple[str, ...]) -> str:
    shown = (cell.replace("|", r"\|").replace("* ", r"\* ") for cell in cells)
    return f"| {' | '.join(shown)} |\n".replace("|  |", "| |").replace("|  |", "| |")


def _prose(text: str) -> str:
    paragraphs = (textwrap.fill(each, WIDTH) for each in text.split("\n\n"))
    return "\n\n".join(paragraphs).replace("*", r"\*") + "\n"


def _code(language: str, text: str) -> str:
    text = textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return f"```{language}\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    CONFIGURATION.write_text(with_variables(CONFIGURATION.read_text()))

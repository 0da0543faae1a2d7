import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli import evalset
from runner.commands.run import command as run_command
from runner.plan.grammar import OAIEVAL, check_passed_through
from tests.docs.page import PAGES, blocks, prose, spans

PROGRAMS = ("evalset", "oaievalset")
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")  # of GitHub Actions


def typed(text: str) -> Iterator[list[str]]:
    """The command lines of our programs in a page's code blocks, as words without the program."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    for block in blocks(text, "console"):
        # One that is answered by an error shows what cannot be typed.
        lines += re.findall(r"^\$ (.+)$(?!\nError: )", block, re.MULTILINE)
    for block in blocks(text, "yaml"):
        lines += re.findall(r"^ *(?:- )?run: (.+)$", block, re.MULTILINE)
    for line in lines:
        words = shlex.split(EXPRESSION.sub("1", line), comments=True)
        for index, word in enumerate(words):
            if word.removeprefix(".venv/bin/") in PROGRAMS:
                yield [Path(word).name, *words[index + 1 :]]
                break


def mentioned(text: str) -> Iterator[list[str]]:
    """Command lines of `evalset` in the running text, some without their arguments."""
    for span in spans(prose(text)):
        if span.startswith("evalset ") and "|" not in span:
            yield shlex.split(span)


# By the names of their tests.
TYPED = {f"{page}-{' '.join(line)}": line for page, text in PAGES.items() for line in typed(text)}
MENTIONED = {
    f"{page}-{' '.join(line)}": line for page, text in PAGES.items() for line in mentioned(text)
}


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line names, and its arguments."""
    command: click.Command = evalset
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"no command {words[0]}"
        command, words = found, words[1:]
    return command, words


def check_oaieval(arguments: tuple[str, ...] | list[str]) -> None:
    """What is passed through is oaieval's, and neither a slip nor a secret."""
    assert check_passed_through(arguments, ours=run_command.our_options()) == []
    ends = arguments.index("--") if "--" in arguments else len(arguments)
    for word in arguments[:ends]:
        assert not word.startswith("-") or word.partition("=")[0] in OAIEVAL, word

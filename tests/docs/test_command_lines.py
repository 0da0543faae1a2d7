import re
from collections.abc import Iterator

import click
import pytest

from runner.cli import evalset
from runner.commands.run import command as run_command
from runner.plan.grammar import OAIEVAL, get_parser, split
from tests.docs.command_line import MENTIONED, TYPED, check_oaieval, resolve
from tests.docs.page import PAGES, prose, spans

# Options of Docker's and upstream's that pages speak of, and how upstream's may be cut short.
OTHERS = {"--cap-drop", "--init", "--record_path", "--no-res", "--", "--[no-]resume"}
OTHERS |= {"--[no-]exit-on-error"}
# Of the programs in docs/compare.md: Inspect and lm-eval.
OTHERS |= {"--checkpoint", "--confirm_run_unsafe_code", "--use_cache"}
OTHERS |= {"--model_args", "--token-limit"}
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")  # of GitHub Actions


@pytest.mark.parametrize("line", TYPED.values(), ids=TYPED)
def test_every_command_line_shown_can_be_typed(line: list[str]) -> None:
    """It names a command, and has only options that it or oaieval knows, in their places."""
    program, *words = line
    if program == "oaievalset":
        check_oaieval(get_parser().parse_known_args(words)[1])
        return
    command, arguments = resolve(words)
    if command is run_command:
        check_oaieval(split(arguments, run_command.our_options()).passed_through)
    asks = {"--help", "-h", "--version"} & set(arguments)
    made = command.make_context(
        "shown", list(arguments), default_map={}, resilient_parsing=bool(asks)
    )
    assert made.command is command


@pytest.mark.parametrize("line", MENTIONED.values(), ids=MENTIONED)
def test_every_command_mentioned_exists(line: list[str]) -> None:
    """A command in the running text exists, and so does each of its options."""
    command, arguments = resolve(line[1:])
    known = {spelling for param in command.params for spelling in param.opts}
    known |= {spelling for param in command.params for spelling in param.secondary_opts}
    known |= {"-h", "--help", "--"}
    options = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    assert options <= (known | OAIEVAL if command is run_command else known)


def all_commands(command: click.Command) -> Iterator[click.Command]:
    """A command and all below it."""
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from all_commands(found)


@pytest.mark.parametrize("page", PAGES)
def test_every_option_mentioned_exists(page: str) -> None:
    """An option in the running text is one of ours, of oaieval's, or known to be another's."""
    params = [param for command in all_commands(evalset) for param in command.params]
    known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    options = {
        re.split(r"[ =]", span)[0] for span in spans(prose(PAGES[page])) if span.startswith("-")
    }
    assert options <= known | OAIEVAL | OTHERS | {"-h", "--help"}

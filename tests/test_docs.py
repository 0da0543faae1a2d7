import re
import shlex
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from runner.cli import COMMANDS, evalset
from runner.cli.configuration import NOT_CONFIGURED, configured
from runner.cli.run_command import command as run_command
from runner.errors import OUT_OF_TIME, RunnerError
from runner.pipeline.environment import USUAL_NAMES, USUAL_PREFIX
from runner.pipeline.run import SIGNALS
from runner.plan.containers import _READERS, parse_rules
from runner.plan.grammar import get_parser, split
from runner.plan.passed_through import OAIEVAL, check_passed_through
from runner.plan.registry import RegistryFile
from runner.record.attempts import AttemptRecord
from runner.record.lock import Holder
from runner.record.run_file import RunFile

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "progress/README.md"])
}

PROGRAMS = ("evalset", "oaievalset")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
# Options of Docker's and upstream's that pages speak of, and how upstream's may be cut short.
OTHERS = {"--cap-drop", "--init", "--record_path", "--no-res", "--", "--[no-]resume"}
OTHERS |= {"--[no-]exit-on-error"}
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")  # of GitHub Actions


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of this machine stands in for an option."""
    for param in run_command.params:
        if isinstance(param.envvar, str):
            monkeypatch.delenv(param.envvar, raising=False)


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks of a page in these languages."""
    return [content for language, content in FENCE.findall(text) if language in languages]


def prose(text: str) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """What GitHub calls a page's headings in links."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def marked(text: str, name: str) -> str:
    """The part of a page between `<!-- name -->` and `<!-- /name -->`."""
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table below its head."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def section(page: str, heading: str) -> str:
    """What stands below a heading of a page, down to the next one."""
    return PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def spans(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


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


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A relative link names a file of the project, and a heading that the file has."""
    for target in LINK.findall(prose(PAGES[page])):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        assert path.resolve().is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path.read_text()), target


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


def test_every_command_is_in_the_readme() -> None:
    """Its table of commands leaves none out."""
    shown = {line[1] for name, line in MENTIONED.items() if name.startswith("README.md")}
    assert shown >= set(COMMANDS)


def options_of_run() -> list[click.Option]:
    """The options of `evalset run`, that for help among them."""
    params = run_command.get_params(click.Context(run_command))
    return [param for param in params if isinstance(param, click.Option)]


def test_the_table_of_options_is_complete() -> None:
    """The README lists exactly the spellings that `evalset run` takes."""
    shown = [span for row in rows(marked(PAGES["README.md"], "options")) for span in spans(row[0])]
    known = {name for option in options_of_run() for name in (*option.opts, *option.secondary_opts)}
    assert sorted(shown) == sorted(known)


def test_the_defaults_shown_are_the_defaults() -> None:
    """The README's default of an option is the one that its help shows."""
    defaults = {
        name: str(option.default)
        for option in options_of_run()
        if option.show_default and not option.is_flag
        for name in option.opts
    }
    cells = {spans(row[0])[0]: row[1] for row in rows(marked(PAGES["README.md"], "options"))}
    assert {name: f"`{defaults[name]}`" for name in cells.keys() & defaults.keys()} == {
        name: cells[name] for name in cells.keys() & defaults.keys()
    }
    assert len(cells.keys() & defaults.keys()) > 5


def test_variables_and_keys_are_those_of_the_options() -> None:
    """Each option that can be configured has its variable and its key, and there are no others."""
    shown = [
        tuple(spans(cell))
        for row in rows(marked(PAGES["docs/configuration.md"], "variables"))
        for cell in (" ".join(row),)
    ]
    known = [
        (
            str(option.envvar),
            str(option.name).replace("_", "-"),
            *option.opts,
            *option.secondary_opts,
        )
        for option in run_command.params
        if isinstance(option, click.Option) and option.name not in NOT_CONFIGURED
    ]
    assert sorted(shown) == sorted(known)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_ours_exists(page: str) -> None:
    """No page speaks of a variable EVALSET_... that nothing looks at."""
    known = {str(param.envvar) for param in run_command.params if param.envvar}
    known |= {"EVALSET_DEBUG", "EVALSET_COMPLETE"}  # the last is click's own
    assert set(re.findall(r"EVALSET_[A-Z_]+[A-Z]", PAGES[page])) <= known


def test_the_variables_handed_in_are_all_shown() -> None:
    """The page lists exactly those that are handed in by default."""
    shown = spans(marked(PAGES["docs/configuration.md"], "handed in"))
    assert sorted(shown) == sorted(USUAL_NAMES)
    assert f"all that begin with `{USUAL_PREFIX}`" in PAGES["docs/configuration.md"]


def exit_codes() -> set[int]:
    """The codes that the programs exit with on purpose."""
    kinds = [RunnerError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    signals = {*SIGNALS, signal.SIGPIPE}
    return {
        0,
        OUT_OF_TIME,
        *(kind.exit_code for kind in kinds),
        *(128 + number for number in signals),
    }


def test_the_table_of_exit_codes_is_complete() -> None:
    """Every code has its line, and no other code has one."""
    shown = rows(marked(PAGES["docs/configuration.md"], "exit codes"))
    assert {int(row[0]) for row in shown} == exit_codes()
    assert len(shown) == len(exit_codes())


@pytest.mark.parametrize("page", PAGES)
def test_exit_codes_in_the_text_exist(page: str) -> None:
    """Every exit code that a page speaks of is one that the programs have."""
    text = prose(PAGES[page])
    named = re.findall(r"\bexit(?:s|ed)?(?: with)?(?: code)? (\d+)", text, re.IGNORECASE)
    lists = re.findall(r"^Exit codes: (.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    named += [number for found in lists for number in re.findall(r"\b\d+\b", found)]
    assert {int(number) for number in named} <= exit_codes()
    # A list that is not the table may leave out the one that no run ends with on purpose.
    for found in lists:
        assert {*re.findall(r"\b\d+\b", found), "141"} == {str(code) for code in exit_codes()}


def test_configuration_files_shown_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is accepted in the file that its first line names."""
    monkeypatch.chdir(tmp_path)
    found = blocks(PAGES["docs/configuration.md"], "toml")
    for content in found:
        path = tmp_path / content.splitlines()[0].removeprefix("# ")
        path.write_text(content)
        shown = configured(run_command)
        table = tomllib.loads(content)
        table = table.get("tool", {}).get("evalset", table)
        assert shown == {key.replace("-", "_"): value for key, value in table.items()}
        run_command.make_context("run", ["m", "s"])
        path.unlink()
    assert len(found) == 2


@pytest.mark.parametrize("page", ["docs/configuration.md", "docs/security.md"])
def test_rules_shown_are_valid(page: str) -> None:
    """Container settings in a page are what a file in containers/ may hold."""
    texts = blocks(PAGES[page], "yaml")
    assert texts
    for text in texts:
        assert parse_rules([RegistryFile(path="shown.yaml", kind="containers", text=text)])


def test_the_keys_of_rules_are_all_shown() -> None:
    """The table of settings per eval is complete."""
    shown = rows(section("docs/configuration.md", "Settings per eval"))
    assert [spans(row[0])[0] for row in shown] == list(_READERS)


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("attempts.jsonl", AttemptRecord), ("run.json", RunFile), ("Locks", Holder)],
)
def test_every_field_is_described(heading: str, kind: type[msgspec.Struct]) -> None:
    """A format's table has its fields in their order, and its example is one of its kind."""
    text = section("docs/formats.md", heading)
    assert [spans(row[0])[0] for row in rows(text)] == list(kind.__struct_fields__)
    example = blocks(text, "json")[0]
    msgspec.json.decode(example, type=kind)
    assert list(msgspec.json.decode(example)) == list(kind.__struct_fields__)


def test_every_json_shown_is_json() -> None:
    """Examples of files can be read by a program."""
    for page, text in PAGES.items():
        for block in blocks(text, "json"):
            assert msgspec.json.decode(block) is not None, page


def test_what_repin_allows_is_the_same_everywhere() -> None:
    """The README and the help name the same things."""
    shown = next(row for row in rows(marked(PAGES["README.md"], "options")) if "--repin" in row[0])
    (option,) = [each for each in options_of_run() if "--repin" in each.opts]
    assert (option.help or "").casefold() == f"{shown[2]}.".casefold()


def test_no_line_of_prose_is_longer_than_a_screen() -> None:
    """Pages can be read where they are edited; tables, links and code may be wider."""
    for page, text in PAGES.items():
        for line in prose(text).splitlines():
            assert len(line) <= 110 or line.startswith("|") or "](" in line, f"{page}: {line}"

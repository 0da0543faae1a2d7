import re
import signal
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

from runner.commands.run import command as run_command
from runner.errors import OUT_OF_TIME, RunnerError
from runner.host import USUAL_NAMES, USUAL_PREFIX
from runner.model import Attempt, decode_command
from runner.plan.pins import RunFile
from runner.records.run_lock import Holder
from runner.registry.entries import RegistryFile
from runner.registry.rules import KEYS, parse_rules
from runner.run.run import SIGNALS
from tests.docs.page import PAGES, blocks, marked, prose, rows, section, spans


def options_of_run() -> list[click.Option]:
    """The options of `evalset run`, that for help among them."""
    params = run_command.get_params(click.Context(run_command))
    return [param for param in params if isinstance(param, click.Option)]


OPTIONS = rows(marked(PAGES["docs/configuration.md"], "options"))


def test_the_options_shown_exist() -> None:
    """The table of options has no spelling that `evalset run` does not take."""
    shown = {
        span
        for row in rows(marked(PAGES["docs/configuration.md"], "options"))
        for span in spans(row[0])
    }
    known = {name for option in options_of_run() for name in (*option.opts, *option.secondary_opts)}
    assert shown <= known


def test_the_defaults_shown_are_the_defaults() -> None:
    """The default of an option in that table is the one that its help shows."""
    defaults = {
        name: str(option.default)
        for option in options_of_run()
        if option.show_default and not option.is_flag
        for name in option.opts
    }
    cells = {
        spans(row[0])[0]: row[1] for row in rows(marked(PAGES["docs/configuration.md"], "options"))
    }
    assert {name: f"`{defaults[name]}`" for name in cells.keys() & defaults.keys()} == {
        name: cells[name] for name in cells.keys() & defaults.keys()
    }
    assert len(cells.keys() & defaults.keys()) >= 3


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_ours_exists(page: str) -> None:
    """No page speaks of a variable EVALSET_... that nothing looks at."""
    known = {str(param.envvar) for param in run_command.params if param.envvar}
    known |= {"EVALSET_DEBUG", "EVALSET_COMPLETE"}  # the last is click's own
    assert set(re.findall(r"EVALSET_[A-Z_]+[A-Z]", PAGES[page])) <= known


def test_the_variables_handed_in_are_all_shown() -> None:
    """The page lists exactly those that are passed in by default."""
    shown = spans(marked(PAGES["docs/configuration.md"], "passed in"))
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


def test_the_table_of_exit_codes_names_the_options_that_lead_to_them() -> None:
    """Those whose help has an exit code, each in that code's line."""
    lines = {row[0]: row[1] for row in rows(marked(PAGES["docs/configuration.md"], "exit codes"))}
    found = {
        (name, code)
        for option in options_of_run()
        for code in re.findall(r"exit (\d+)", option.help or "")
        for name in option.opts
    }
    assert {name for name, _ in found} == {"--budget", "--time-budget"}
    assert [(name, code) for name, code in found if f"`{name}`" not in lines[code]] == []


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
        shown = run_command.configured()
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
    assert [spans(row[0])[0] for row in shown] == list(KEYS)


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("attempts.jsonl", Attempt), ("run.json", RunFile), ("Locks", Holder)],
)
def test_every_field_is_described(heading: str, kind: type[msgspec.Struct]) -> None:
    """A format's table has its fields in their order, and its example is one of its kind."""
    text = section("docs/formats.md", heading)
    assert [spans(row[0])[0] for row in rows(text)] == list(kind.__struct_encode_fields__)
    example = blocks(text, "json")[0]
    msgspec.json.decode(example, type=kind, dec_hook=decode_command)
    assert list(msgspec.json.decode(example)) == list(kind.__struct_encode_fields__)

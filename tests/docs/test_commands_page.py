import re

from tests.docs.commands_page import CONFIGURATION, PAGE, commands, page, with_variables

# All commands, as they are typed.
NAMES = ["evalset", *(f"evalset {name}" for name, _ in commands())]


def test_the_page_is_what_help_shows() -> None:
    """Where this fails, `make docs` writes it anew."""
    assert PAGE.read_text() == page()


def test_the_table_of_variables_is_that_of_the_options() -> None:
    """Each option that can be configured has its row; `make docs` writes them, too."""
    text = CONFIGURATION.read_text()
    assert text == with_variables(text)
    assert "\n| `EVALSET_SELECT` | `select` | `--select` | `verify`, `matrix`, " in text
    assert "--dry-run` |" not in text.partition("<!-- variables -->")[2].partition("<!--")[0]


def test_every_command_has_its_part() -> None:
    """And that begins with how it is called, and ends with an example."""
    parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert [part.partition("\n")[0] for part in parts] == [*NAMES, "oaievalset"]
    for part in parts:
        name = part.partition("\n")[0]
        assert f"\n```text\n{name} " in part
        assert re.search(rf"\n```sh\n{name}\b", part)


def test_a_table_leads_to_every_command() -> None:
    """Those of a group are below its own options."""
    linked = re.findall(r"^\| \[`(.+?)`\]", PAGE.read_text(), re.MULTILINE)
    assert sorted([*linked, "evalset"]) == sorted(NAMES)


def test_options_have_values_defaults_and_variables() -> None:
    """As in the help, with what click shows in words only."""
    text = PAGE.read_text()
    assert "| `--jobs N` | the engine's CPUs | `EVALSET_JOBS` |" in text
    assert "| `-e NAME`, `--env NAME` | | `EVALSET_ENV` |" in text
    assert "| `-h`, `--help` | | |" in text
    assert "\nWhat each eval gets:\n\n| option |" in text

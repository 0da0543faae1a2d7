"""A folder that is named as a registry and is none: every command says the same."""

import json
from pathlib import Path

import pytest

from tests.commands.conftest import Here

NONE_OF = "has none of a registry's folders (evals, eval_sets and so on)"
COMMANDS = (
    ("run", "dummy", "mine"),
    ("list",),
    ("list", "evals"),
    ("matrix", "--model", "dummy", "--eval-set", "mine", "--shards", "2"),
)


@pytest.fixture
def deeper(here: Here) -> Path:
    """The folder above a registry, which is easily taken for it."""
    return here.put("deeper/own/evals/a.yaml", "a: {class: b:C}\n").parents[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_registry_is_refused(
    here: Here, deeper: Path, command: tuple[str, ...]
) -> None:
    """With what was probably meant; nothing is listed as if the folder were empty."""
    line = here.refused(*command, "--registry-path", str(deeper))
    assert line == f"the registry folder {deeper} {NONE_OF}; name the folder that they are in"
    line = here.refused(*command, "--registry-path", f"{deeper}/none")
    assert line == f"the registry folder {deeper}/none does not exist; check --registry-path"


def test_doctor_says_what_the_others_say(here: Here, deeper: Path) -> None:
    """As what it found, and the cure."""
    ended = here.evalset("doctor", "--json", "--registry-path", str(deeper))
    (found,) = [each for each in json.loads(ended.stdout) if each["name"] == "registry"]
    assert found["ok"] is False
    assert found["found"] == f"the registry folder {deeper} {NONE_OF}"
    assert found["cure"] == "name the folder that they are in"

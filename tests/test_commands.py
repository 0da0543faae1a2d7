import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Command, container_registries, decode_command


def test_containers_have_registries_at_fixed_places() -> None:
    """The place depends on the order alone, so that commands are the same on every host."""
    assert container_registries(2) == ("/registry/0", "/registry/1")
    assert container_registries(0) == ()


def test_the_parts_of_a_command_have_names() -> None:
    """A command is compared as what it is, a tuple of texts."""
    command = Command(("oaieval", "m", "e", "--seed", "1"))
    assert (command.program, command.model, command.eval) == ("oaieval", "m", "e")
    assert command.arguments == ("--seed", "1")
    assert command.without_eval == ("oaieval", "m", "--seed", "1")
    assert command.is_whole
    assert command == ("oaieval", "m", "e", "--seed", "1")


@pytest.mark.parametrize(
    ("parts", "program", "model", "shown"),
    [((), "", "", ""), (("oaieval",), "oaieval", "", "oaieval"), (("o", "m"), "o", "m", "o m")],
)
def test_a_command_that_is_too_short_has_its_parts_all_the_same(
    parts: tuple[str, ...], program: str, model: str, shown: str
) -> None:
    """Anybody may write a line of a progress file; all of it stands for its eval."""
    command = Command(parts)
    assert (command.program, command.model, command.eval) == (program, model, shown)
    assert command.arguments == ()
    assert command.without_eval == parts
    assert not command.is_whole


def test_the_key_of_a_command_never_changes() -> None:
    """Labels of containers that run have it, and pages of reports are named by it."""
    assert Command(("oaieval", "m", "e")).key == "2c826f827c188dc0"


@given(parts=st.lists(st.text(st.characters(codec="utf-8"))))
def test_a_command_is_a_list_in_a_file(parts: list[str]) -> None:
    """What is written is what is read."""
    written = msgspec.json.encode(Command(parts))
    assert json.loads(written) == parts
    read = msgspec.json.decode(written, type=Command, dec_hook=decode_command)
    assert isinstance(read, Command)
    assert read == tuple(parts)


@pytest.mark.parametrize("text", [b'"oaieval m e"', b'["oaieval", 1]', b"{}", b"null"])
def test_what_is_no_list_of_texts_is_no_command(text: bytes) -> None:
    """A file may hold anything."""
    with pytest.raises(msgspec.ValidationError, match="a command is a list of texts"):
        msgspec.json.decode(text, type=Command, dec_hook=decode_command)

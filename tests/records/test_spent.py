import fcntl
from pathlib import Path

import pytest

from runner.model import Command
from runner.records.layout import Layout
from runner.records.spending import Spent, read_spent
from tests.answered import Answered

COMMANDS = [Command(("oaieval", "m", name)) for name in ("b.v0", "a.v0", "c.v0")]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="m", eval_set="s")


def answered(layout: Layout, command: Command) -> Answered:
    return Answered(layout.root, command, model=layout.model, eval_set=layout.eval_set)


def test_nothing_was_spent_without_answers(layout: Layout) -> None:
    """A run without the gateway leaves none."""
    assert read_spent(layout, COMMANDS) == Spent()
    assert Spent().totals.requests == 0


def test_evals_are_in_the_order_of_the_plan(layout: Layout) -> None:
    """What no plan has any more comes last, under the name of its file."""
    gone = Command(("oaieval", "m", "a gone one.v0"))
    for count, command in enumerate([gone, *COMMANDS[:2]], start=1):
        answered(layout, command).paid(count)
    found = read_spent(layout, COMMANDS)
    assert [one.eval for one in found.evals] == ["b.v0", "a.v0", "a-gone-one.v0"]
    assert [one.command for one in found.evals] == [*COMMANDS[:2], None]
    assert [one.totals.answers for one in found.evals] == [2, 3, 1]
    assert found.totals.answers == 6


def test_a_file_that_cannot_be_read_is_named(layout: Layout) -> None:
    """The others count; so do the lines that can be read."""
    one = answered(layout, COMMANDS[0])
    one.paid()
    one.path.write_bytes(b"{\n" + one.path.read_bytes())
    layout.answers_of(COMMANDS[1]).mkdir()
    found = read_spent(layout, COMMANDS)
    assert found.totals.answers == 1
    assert [message.partition(": ")[2] for message in found.damaged] == [
        "line 1 cannot be read and is left as it is",
        "it is a folder; move it away",
    ]


def test_dated_and_torn_files_do_not_count(layout: Layout) -> None:
    """They were set aside."""
    one = answered(layout, COMMANDS[0])
    one.paid()
    one.path.rename(one.path.with_name(f"{one.path.name}.torn"))
    assert read_spent(layout, COMMANDS) == Spent()


def test_a_gateway_that_works_is_seen(layout: Layout) -> None:
    """Requests without an end may then be under way."""
    answered(layout, COMMANDS[0]).sent()
    assert not read_spent(layout, COMMANDS).working
    layout.gateway.mkdir(parents=True)
    with (layout.gateway / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_spent(layout, COMMANDS).working
    assert not read_spent(layout, COMMANDS).working

"""What people are told of the answers that a run has paid for; none of this needs an engine."""

import fcntl
import json
import re

import pytest

from runner.records.layout import Layout
from tests.answered import Answered
from tests.commands.conftest import Here, contents, only_line

A = ["oaieval", "dummy", "a.dev.v0", "--registry_path", "/registry/0"]
B = ["oaieval", "dummy", "b.dev.v0", "--registry_path", "/registry/0"]

LINE = "answers: 5 paid for (350 tokens, $1.25), 2 replayed (saved 140 tokens, $0.5000)"


def answers_of(here: Here, command: list[str]) -> Answered:
    return Answered(here.folder / "progress", command, model="dummy", eval_set="mine")


@pytest.fixture
def answered(here: Here) -> Here:
    """Two evals have asked; some of the answers of one were given again."""
    one = answers_of(here, A)
    one.paid(5, usd=0.25)
    one.replayed(2)
    other = answers_of(here, B)
    other.refused()
    other.failed()
    return here


def shown(here: Here, *arguments: str) -> str:
    ended = here.evalset(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_answers_shows_each_eval_and_the_total(answered: Here) -> None:
    """A column that would be empty is not there, and nothing is written."""
    before = contents(answered.folder)
    text = shown(answered, "answers", "dummy", "mine")
    head, *lines = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.strip()]
    assert head == [
        *("eval", "requests", "answers", "replayed", "tokens in", "tokens out", "cost", "failed"),
    ]
    assert lines[1:] == [
        ["a.dev.v0", "5", "5", "2", "300", "50", "$1.25"],
        ["b.dev.v0", "2", "2"],
        ["total", "7", "5", "2", "300", "50", "$1.25", "2"],
        ["answers: 5 paid for (350 tokens, $1.25), 2 replayed (saved 140 tokens, $0.5000)"],
    ]
    assert contents(answered.folder) == before


def test_answers_as_json_have_every_figure(answered: Here) -> None:
    """For each eval, and for all of them together."""
    found = json.loads(shown(answered, "answers", "dummy", "mine", "--json"))
    assert (found["model"], found["eval_set"], found["gateway_works"]) == ("dummy", "mine", False)
    assert found["total"] == {
        "requests": 7,
        "answers": 5,
        "failed": 2,
        "perhaps_paid": 0,
        "replayed": 2,
        "input_tokens": 300,
        "output_tokens": 50,
        "cached_tokens": 0,
        "usd": 1.25,
        "unpriced_tokens": 0,
        "saved_tokens": 140,
        "saved_usd": 0.5,
        "perhaps_tokens": 0,
        "perhaps_usd": None,
        "seconds": 2.5,
    }
    first, second = found["evals"]
    assert (first["eval"], first["answers"], first["usd"]) == ("a.dev.v0", 5, 1.25)
    assert first["arguments"] == "--registry_path /registry/0"
    assert (answered.folder / "progress" / first["file"]).is_file()
    assert (second["eval"], second["answers"], second["usd"]) == ("b.dev.v0", 0, None)


def test_answers_without_a_price_have_no_cost(here: Here) -> None:
    """Where some have one, the cost is marked, and what has none is said."""
    one = answers_of(here, A)
    one.paid(2)
    text = shown(here, "answers", "dummy", "mine")
    assert "$" not in text
    assert text.endswith("\nanswers: 2 paid for (140 tokens)\n")
    one.paid(usd=0.0123)
    text = shown(here, "answers", "dummy", "mine")
    assert "$0.0123+" in text
    assert text.endswith("(210 tokens, $0.0123); no price was known for 140 tokens\n")


def test_what_is_perhaps_paid_is_said(here: Here) -> None:
    """While a gateway works it may only be under way."""
    one = answers_of(here, A)
    one.sent()
    one.failed(billed=None)
    text = shown(here, "answers", "dummy", "mine")
    assert text.endswith("\nanswers: 2 perhaps paid\n")
    gateway = Layout(root=here.folder / "progress", model="dummy", eval_set="mine").gateway
    gateway.mkdir(parents=True)
    with (gateway / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = shown(here, "answers", "dummy", "mine")
    assert text.endswith("\nanswers: 2 under way or perhaps paid\n")


def test_evals_with_several_arguments_are_told_apart(here: Here) -> None:
    """By what was passed through to them."""
    here.progress.write_text("".join(f"{json.dumps([*A, *more])}\n" for more in ([], ["--seed=1"])))
    answers_of(here, A).paid()
    answers_of(here, [*A, "--seed=1"]).paid()
    text = shown(here, "answers", "dummy", "mine")
    assert text.count("--registry_path /registry/0") == 2
    assert "--registry_path /registry/0 --seed=1" in text


@pytest.mark.parametrize("command", ["answers", "status"])
def test_damaged_lines_are_named_on_stderr(answered: Here, command: str) -> None:
    """What can be read is shown."""
    path = answers_of(answered, A).path
    path.write_bytes(b"[dam\n" + path.read_bytes())
    ended = answered.evalset(command, "dummy", "mine", "--json")
    assert (
        ended.stderr == f"warning: {path.resolve()}: line 1 cannot be read and is left as it is\n"
    )
    found = json.loads(ended.stdout)
    assert (found["total"] if command == "answers" else found["answers"])["answers"] == 5


def test_without_answers_there_is_an_error(here: Here) -> None:
    """It says where they would come from."""
    line = only_line(here.evalset("answers", "dummy", "mine"), 2)
    root = here.folder.resolve() / "progress"
    assert line.startswith(f"{root} has no answers of dummy mine; a run records ")


def test_status_says_what_was_paid_and_saved(answered: Here) -> None:
    """In its last line, and as JSON; without answers neither is there."""
    assert shown(answered, "status", "dummy", "mine").splitlines()[-2:] == [
        "2 of 2 evals finished",
        LINE,
    ]
    found = json.loads(shown(answered, "status", "dummy", "mine", "--json"))
    assert (
        found["answers"]
        == json.loads(shown(answered, "answers", "dummy", "mine", "--json"))["total"]
    )


def test_status_without_answers_says_nothing_of_them(here: Here) -> None:
    """A model that needs no provider, for one."""
    assert "answers" not in shown(here, "status", "dummy", "mine")
    assert json.loads(shown(here, "status", "dummy", "mine", "--json"))["answers"] is None


def test_status_works_where_answers_may_not_be_read(answered: Here) -> None:
    """It names the files, and shows the rest."""
    answers_of(answered, A).path.chmod(0)
    ended = answered.evalset("status", "dummy", "mine", bound=True)
    assert ended.returncode == 0
    assert "no permission" in ended.stderr
    assert "2 of 2 evals finished" in ended.stdout

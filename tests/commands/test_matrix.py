import json
from pathlib import Path

import pytest

from tests.commands.conftest import Here

MATRIX = ("matrix", "--model", "dummy", "--eval-set", "mine", "--registry-path", "own")


def entries(*shards: str) -> list[dict[str, str]]:
    """The matrix of `dummy mine`."""
    return [{"model": "dummy", "eval_set": "mine", "shard": shard} for shard in shards]


@pytest.mark.docker
def test_the_matrix_is_one_line_of_json(here_with_engine: Here) -> None:
    """Which the image's registry and further folders decide."""
    ended = here_with_engine.evalset(*MATRIX, "--shards", "2")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("\n") == 1
    assert json.loads(ended.stdout) == {"include": entries("1/2", "2/2")}


@pytest.mark.docker
def test_on_github_actions_it_becomes_an_output(here_with_engine: Here, tmp_path: Path) -> None:
    """Added to what other commands of the step have set, as a single line."""
    outputs = tmp_path / "outputs"
    outputs.write_text("before=1\n")
    ended = here_with_engine.evalset(
        *MATRIX, "--model", "méthode\u2028x", "--per-shard", "3", GITHUB_OUTPUT=str(outputs)
    )
    assert ended.returncode == 0, ended.stderr
    before, line = outputs.read_text().splitlines()
    assert before == "before=1"
    assert line == f"matrix={ended.stdout.removesuffix(chr(10))}"
    assert [entry["model"] for entry in json.loads(ended.stdout)["include"]] == [
        "dummy",
        "méthode\u2028x",
    ]


@pytest.mark.docker
@pytest.mark.parametrize(
    ("options", "select", "exclude"),
    [
        (["--select", "a*", "--select", "b*"], "", ""),
        (["--exclude", "c*"], "", ""),
        ([], "a* b*", ""),
        ([], "", "c*"),
    ],
)
def test_only_the_evals_that_are_run_count(
    here_with_engine: Here, options: list[str], select: str, exclude: str
) -> None:
    """A selection makes for fewer shards, by option or by variable; fewer than asked are told."""
    ended = here_with_engine.evalset(
        *MATRIX, "--shards", "3", *options, EVALSET_SELECT=select, EVALSET_EXCLUDE=exclude
    )
    assert json.loads(ended.stdout) == {"include": entries("1/2", "2/2")}
    assert ended.stderr == (
        "warning: dummy mine gets 2 shards instead of 3: it has no more evals\n"
    )


@pytest.mark.docker
def test_an_unknown_eval_set_is_refused(here_with_engine: Here) -> None:
    """In the job that plans, and not in each that runs."""
    line = here_with_engine.refused(*MATRIX, "--eval-set", "mien", "--shards", "2")
    assert line == "no eval set `mien`; did you mean `mine`?"


@pytest.mark.docker
def test_an_output_that_cannot_be_written_is_named(here_with_engine: Here) -> None:
    """By its path."""
    ended = here_with_engine.evalset(*MATRIX, "--shards", "2", GITHUB_OUTPUT="none/file")
    assert ended.returncode == 3
    assert "cannot write none/file: No such file or directory" in ended.stderr


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ([], "give --shards, --per-shard, or both"),
        (["--shards", "0"], "'--shards': 0 is not in the range x>=1"),
        (["--per-shard", "0"], "'--per-shard': 0 is not in the range x>=1"),
        (["--shards", "some"], "'some' is not a valid integer"),
        (["--shards", "2", "--model", "dummy"], "--model `dummy` is given twice; leave one out"),
        (["--shards", "2", "--eval-set", "mine"], "--eval-set `mine` is given twice"),
        (["--shards", "2", "--model", "../up"], "would lead elsewhere"),
        (["--shards", "2", "--model", ""], "the model's name is empty"),
        (["--shards", "2", "--registry-path", "none"], "none does not exist; check --registry"),
    ],
)
def test_what_makes_no_matrix_is_one_line(here: Here, options: list[str], fact: str) -> None:
    """None of these needs an engine."""
    assert fact in here.refused(*MATRIX, *options)


def test_a_model_and_an_eval_set_are_needed(here: Here) -> None:
    """The line names the one that is missing."""
    assert "Missing option '--model'" in here.refused("matrix", "--eval-set", "s", "--shards", "1")
    assert "Missing option '--eval-set'" in here.refused("matrix", "--model", "m", "--shards", "1")

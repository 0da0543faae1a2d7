import json

import pytest

from runner.records.run_file import read_run_file
from tests.conftest import Place

pytestmark = pytest.mark.docker


def test_a_selection_runs_alone(place: Place) -> None:
    """`--select` and `--exclude` take patterns; the rest is for a later run."""
    place.registry("succeed.a.x", "succeed.b.x", "succeed.c.y")
    place.run("--select", "*.x", "--exclude", "succeed.b*")
    assert place.finished() == ["succeed.a.x"]
    place.run()
    assert sorted(place.finished()) == ["succeed.a.x", "succeed.b.x", "succeed.c.y"]


def test_the_state_of_a_shards_run_shows_the_other_shards_evals(place: Place) -> None:
    """The run's file has the whole plan, so that what is left elsewhere can be seen."""
    place.registry("succeed.a", "succeed.b", "succeed.c")
    assert place.run("--shard", "2/2", "--exclude", "succeed.c").returncode == 0
    found = read_run_file(place.layout.run)
    assert found
    assert [command[2] for command in found.commands] == ["succeed.a", "succeed.b"]
    assert found.shard == "2/2"
    status = json.loads(place.ask("status", "m", "s", "--json").stdout)
    assert {row["eval"]: row["state"] for row in status["evals"]} == {
        "succeed.a": "to do",
        "succeed.b": "done",
    }


def test_shards_together_run_everything_once(place: Place) -> None:
    """Two shards of one set attempt different evals, and between them all."""
    names = [f"succeed.{letter}" for letter in "abcde"]
    place.registry(*names)
    assert place.run("--shard", "1/2").returncode == 0
    first = place.finished()
    assert 0 < len(first) < 5
    assert place.run("--shard", "2/2").returncode == 0
    assert sorted(place.finished()) == names
    assert sorted(record.eval for record in place.records()) == names


def test_starting_over_keeps_the_old_files(place: Place) -> None:
    """`--no-resume` runs everything again, and puts the old files aside."""
    place.registry("succeed.a")
    place.run()
    ended = place.run("--no-resume")
    assert ended.returncode == 0
    assert place.finished() == ["succeed.a"]
    kept = sorted(place.progress.rglob("*progress.txt*"))
    assert len(kept) == 2
    assert f"kept as {kept[1]}\n" in ended.stdout

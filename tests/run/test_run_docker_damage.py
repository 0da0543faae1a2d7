"""Runs that find the files of earlier ones damaged: they say so, and continue."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.conftest import Place

pytestmark = pytest.mark.docker


def cut(path: Path) -> None:
    """Take away the last bytes."""
    path.write_bytes(path.read_bytes()[:-9])


def zeroed(path: Path) -> None:
    """As a power loss leaves a file on some file systems."""
    path.write_bytes(path.read_bytes() + bytes(4096))


def edited(path: Path) -> None:
    """As an editor of another system saves it, with a line of its own."""
    text = path.read_text().replace("\n", "\r\n")
    path.write_bytes(f"{text}[what is this\r\n".encode("utf-8-sig"))


@pytest.mark.parametrize("damage", [cut, zeroed, edited])
def test_a_run_goes_on_with_damaged_records(place: Place, damage: Callable[[Path], None]) -> None:
    """What its records still say is finished is not run again; the next one finds them whole."""
    place.registry("succeed.a", "succeed.b")
    assert place.run().returncode == 0
    finished = place.layout.progress.read_bytes()
    damage(place.layout.progress)
    damage(place.layout.attempts)
    before = {each.id for each in place.records()}
    status = place.ask("status", "m", "s")
    assert status.returncode == 0
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    again = 1 if damage is cut else 0
    assert len({each.id for each in place.records()} - before) == again
    assert ("cannot be read and is left as it is" in ended.stdout) is (damage is edited)
    assert sorted(place.finished()) == ["succeed.a", "succeed.b"]
    if damage is cut:
        torn = place.layout.progress.with_name("m.s.progress.txt.torn")
        assert torn.read_bytes() in {
            line[:-9] + b"\n" for line in finished.splitlines(keepends=True)
        }
    last = place.run()
    assert "nothing to run; finished: 2 evals" in last.stdout


def test_what_a_newer_evalset_wrote_counts_and_stays(place: Place) -> None:
    """Its records are read as far as they are understood, named, and never rewritten."""
    place.registry("succeed.a", "succeed.b")
    assert place.run("--select", "succeed.a").returncode == 0
    run_file = json.loads(place.layout.run.read_bytes())
    newer = json.dumps(run_file | {"version": 9, "colour": "green"}).encode()
    place.layout.run.write_bytes(newer)
    line = json.loads(place.layout.attempts.read_bytes())
    attempts = json.dumps(line | {"version": 9, "duration": {"seconds": 1}}).encode() + b"\n"
    place.layout.attempts.write_bytes(attempts)
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert "m.s.run.json was written by a newer evalset" in ended.stdout
    assert "m.s.attempts.jsonl: written by a newer evalset: line 1" in ended.stdout
    assert "started  succeed.a" not in ended.stdout
    assert place.layout.attempts.read_bytes().startswith(attempts)
    (kept,) = place.layout.run.parent.glob("m.s.run.json.*Z")
    assert kept.read_bytes() == newer
    assert "newer" not in place.ask("status", "m", "s").stdout


def test_files_that_only_help_may_be_anything(place: Place) -> None:
    """Who held the lock, and what was kept of an image's registry."""
    place = msgspec.structs.replace(place, cache=place.folder / "cache")
    place.registry("succeed.a")
    assert place.run().returncode == 0
    place.layout.lock.with_name("m.s.lock.holder.json").write_bytes(b"\0" * 99)
    kept = list((place.cache / "evalset/registries").iterdir())
    assert kept
    whole = [path.read_bytes() for path in kept]
    for path, content in zip(kept, whole, strict=True):
        path.write_bytes(content[:100] + bytes(50) + content[150:-7])
    assert place.run("--no-resume").returncode == 0
    assert [path.read_bytes() for path in kept] == whole

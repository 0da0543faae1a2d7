import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Place
from tests.run.talk import said_until

pytestmark = pytest.mark.docker


@contextlib.contextmanager
def small_disk(place: Place, size: str) -> Iterator[Path]:
    """A file system of that size where the progress directory is, which the engine sees."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system that the engine sees")
    place.progress.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place.progress], check=True
    )
    try:
        yield place.progress
    finally:
        subprocess.run(["umount", "--lazy", place.progress], check=True)


def test_a_run_does_not_start_on_a_disk_that_is_almost_full(place: Place) -> None:
    """Exit 3 before anything is paid for; the line says what uses the space, and what to do."""
    place.registry("succeed.a")
    with small_disk(place, "20m"):
        ended = place.run("--min-free-disk", "30m")
        assert ended.returncode == 3
        assert "no eval was started: only " in ended.stderr
        assert "are free on the disk where " in ended.stderr
        assert "(--min-free-disk is 30 MiB)" in ended.stderr
        assert f"logs ({place.progress}/evallogs) use 0 KiB" in ended.stderr
        assert place.records() == []
        assert place.run("--min-free-disk", "0").returncode == 0
        assert place.run("--min-free-disk", "30m").returncode == 0  # there is nothing to start
        assert place.leftovers() == []


def test_a_disk_that_fills_up_pauses_the_run(place: Place) -> None:
    """What runs continues; nothing starts until there is room again."""
    place.registry("wait.a", "succeed.b")
    with small_disk(place, "40m") as disk:
        with place.running("--min-free-disk", "20m", "--jobs", "1", "--tmp-limit", "30m") as run:
            place.until_running(1)
            (disk / "much").write_bytes(bytes(30 << 20))
            said_until(run, "warning: no new eval starts, running ones continue: only ")
            (disk / "much").unlink()
            said_until(run, "there is room on the disk again; new evals start")
            place.let_go()
            assert run.wait(20) == 0
        assert place.finished() == ["wait.a", "succeed.b"]


def test_a_run_ends_where_nothing_runs_that_could_make_room(place: Place) -> None:
    """The last one that runs is recorded; exit 3, and the same again continues with the rest."""
    place.registry("wait.a", "succeed.b")
    with small_disk(place, "40m") as disk:
        with place.running("--min-free-disk", "20m", "--jobs", "1", "--tmp-limit", "30m") as run:
            place.until_running(1)
            (disk / "much").write_bytes(bytes(30 << 20))
            said_until(run, "warning: no new eval starts")
            place.let_go()
            assert run.stdout
            said = run.stdout.read()
            assert run.wait(20) == 3
        assert "1 eval not started: only " in said
        assert said.rstrip().endswith("then run the same command again")
        assert place.finished() == ["wait.a"]
        (disk / "much").unlink()
        assert place.run("--min-free-disk", "20m").returncode == 0
        assert place.finished() == ["wait.a", "succeed.b"]


def test_nothing_starts_on_a_full_disk_though_evals_are_left_over(place: Place) -> None:
    """What a killed run left is taken over; what is new has to wait for room."""
    place.registry("wait.a", "succeed.b", "succeed.c")
    with small_disk(place, "40m") as disk:
        with place.running("--min-free-disk", "0", "--jobs", "1") as run:
            place.until_running(1)
            run.kill()
            run.wait()
        (disk / "much").write_bytes(bytes(30 << 20))
        with place.running("--min-free-disk", "20m", "--jobs", "3") as run:
            said_until(run, "warning: no new eval starts")
            place.let_go()
            assert run.wait(20) == 3
        assert place.finished() == ["wait.a"]
        assert len(place.records()) == 1
        (disk / "much").unlink()
        assert place.run("--min-free-disk", "20m").returncode == 0


def test_a_full_disk_loses_nothing(place: Place) -> None:
    """Not a byte can be written: exit 3; with room again the outcome is recorded, not run again."""
    place.registry("wait.a")
    with small_disk(place, "8m") as disk:
        with place.running("--min-free-disk", "0", "--jobs", "1") as run:
            (private,) = place.until_running(1)
            with (disk / "much").open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(4096))
                file.truncate(file.tell() - 4096)  # for the eval's own log
            (private / "go").touch()
            assert run.stdout
            said = run.stdout.read()
            assert run.wait(20) == 3
        assert "the disk is full; free some space and run again" in said
        (disk / "much").unlink()
        whole = [path for path in disk.rglob("*") if path.name.endswith(".new")]
        assert whole == []
        again = place.run("--min-free-disk", "0")
        assert again.returncode == 0, said + again.stdout
        assert place.finished() == ["wait.a"]
        assert place.records()[0].id == private.name
        assert place.leftovers() == []

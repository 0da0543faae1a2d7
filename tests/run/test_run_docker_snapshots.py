import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.image.image import find_image
from tests.branch.desk import BRANCH, git, make_bare, make_clone
from tests.conftest import Place, engine_api, until

pytestmark = pytest.mark.docker


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A bare repository next to the test's own folder."""
    return make_bare(tmp_path / "hub.git")


def finished_at(repository: Path) -> set[str]:
    """Evals that the branch calls finished."""
    text = git(repository, "show", f"{BRANCH}:oaievalset/m.s.progress.txt")
    return {line.split('"')[5] for line in text.splitlines()}


def test_a_run_puts_its_progress_on_a_branch(place: Place, hub: Path) -> None:
    """With nothing but a remote: no clone is needed, and the user's folder gets none."""
    place.registry("succeed.a", "fail.b")
    run = place.run("--snapshot", "--remote", str(hub))
    assert run.returncode == 1, run.stderr
    assert finished_at(hub) == {"succeed.a"}
    assert "1 of 2 evals finished, 1 failed" in git(hub, "show", f"{BRANCH}:README.md")
    names = git(hub, "ls-tree", "-r", "--name-only", BRANCH, "evallogs/").splitlines()
    logs = {str(path.relative_to(place.progress)) for path in place.layout.evallogs.iterdir()}
    assert set(names) == logs
    trailers = git(hub, "log", "-1", "--format=%(trailers:only)", BRANCH)
    assert {line.partition(":")[0] for line in trailers.splitlines()} == {
        "Evalset-Host",
        "Evalset-Image",
        "Evalset-Run",
        "Evalset-Runner",
    }


def test_a_snapshot_of_an_image_on_top_of_ours_has_its_id(
    place: Place, hub: Path, image_on_top: str
) -> None:
    """Its fingerprint is that of the image below it, and no other's."""
    place.registry("succeed.a")
    place.run("--snapshot", "--remote", str(hub), EVALSET_IMAGE=image_on_top)
    form = "--format=%(trailers:key=Evalset-Image,valueonly)"
    told = git(hub, "log", "-1", form, BRANCH).strip()
    assert told == find_image(engine_api(), image_on_top).id


def test_a_run_in_a_clone_uses_its_repository_and_its_remote(place: Place, hub: Path) -> None:
    """What the user has there, staged or not, stays as it is."""
    clone = make_clone(place.folder / "clone", remote=hub)
    status = git(clone, "status", "--porcelain=v2")
    place.registry("succeed.a")
    line = place.line("--snapshot")
    run = subprocess.run(
        line, cwd=clone, env=place.environ(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert git(clone, "rev-parse", BRANCH) == git(hub, "rev-parse", BRANCH)
    assert git(clone, "status", "--porcelain=v2") == status
    assert finished_at(hub) == {"succeed.a"}


def test_another_progress_directory_goes_on_from_the_branch(
    place: Place, hub: Path, tmp_path: Path
) -> None:
    """What was finished elsewhere does not run again; one flag does both."""
    place.registry("succeed.a", "succeed.b")
    options = ("--snapshot", "--remote", str(hub))
    assert place.run("--select", "succeed.a", *options).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    preview = place.run(*options, "--progress-dir", str(elsewhere), "--dry-run")
    assert preview.returncode == 0, preview.stderr
    assert "finished (1):\n  /bin/program m succeed.a" in preview.stdout
    run = place.run(*options, "--progress-dir", str(elsewhere))
    assert run.returncode == 0, run.stderr
    assert "took over 1 eval that the branch" in run.stdout
    assert "started  succeed.a" not in run.stdout
    assert finished_at(hub) == {"succeed.a", "succeed.b"}
    again = place.run(*options)
    assert again.returncode == 0, again.stderr
    assert "nothing to run" in again.stdout
    assert place.finished() == ["succeed.a", "succeed.b"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_last_snapshot(place: Place, hub: Path, number: signal.Signals) -> None:
    """What ended before it and during the grace is on the remote when the process is gone."""
    place.registry("succeed.a", "wait.b", "wait.c")
    with place.running("--snapshot", "--remote", str(hub), "--jobs", "1", "--grace", "1s") as run:
        place.until_running(1)
        run.send_signal(number)
        assert run.wait(30) == 128 + number
    assert finished_at(hub) == {"succeed.a"}
    text = git(hub, "show", f"{BRANCH}:oaievalset/m.s.attempts.jsonl")
    assert [record.id in text for record in place.records()] == [True, True]


def test_a_run_that_cannot_push_at_its_end_says_how_to_do_it_later(place: Place, hub: Path) -> None:
    """The evals have passed: exit 4, and the command that it names does the rest."""
    place.registry("wait.a")
    away = hub.with_name("away.git")
    with place.running("--snapshot", "--remote", str(hub)) as run:
        place.until_running(1)
        hub.rename(away)
        place.let_go()
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 4, said
    assert place.finished() == ["wait.a"]
    away.rename(hub)
    assert finished_at(hub) == set()
    command = shlex.split(said.rpartition("push it later with `")[2].partition("`")[0])
    assert command[0] == "evalset"
    pushed = subprocess.run(
        [sys.executable, "-m", "runner", *command[1:]],
        cwd=place.folder,
        env=place.environ(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert pushed.returncode == 0, pushed.stderr
    assert finished_at(hub) == {"wait.a"}


def test_a_failure_counts_more_than_a_push(place: Place, hub: Path) -> None:
    """Exit 1 as without snapshots; that the push failed is said."""
    place.registry("wait.a")
    with place.running("--snapshot", "--remote", str(hub)) as run:
        place.until_running(1)
        hub.rename(hub.with_name("away.git"))
        place.let_go(3)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert "push it later with" in said


def test_a_remote_that_takes_nothing_is_noticed_before_the_first_eval(
    place: Place, hub: Path
) -> None:
    """Nothing was paid for: one line, exit 3, and no container."""
    hook = hub / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    place.registry("succeed.a")
    run = place.run("--snapshot", "--remote", str(hub))
    assert run.returncode == 3
    assert run.stderr.count("\n") == 1
    assert "pre-receive hook declined" in run.stderr
    assert "started" not in run.stdout
    assert place.records() == []


def test_starting_over_needs_a_new_branch(place: Place, hub: Path) -> None:
    """Nothing is ever taken from a progress branch; the old files stay where they are."""
    place.registry("succeed.a")
    options = ("--snapshot", "--remote", str(hub))
    assert place.run(*options).returncode == 0
    refused = place.run(*options, "--no-resume")
    assert refused.returncode == 2
    assert "--snapshot-branch" in refused.stderr
    assert place.finished() == ["succeed.a"]
    run = place.run(*options, "--no-resume", "--snapshot-branch", "second")
    assert run.returncode == 0, run.stderr
    assert "started  succeed.a" in run.stdout


def test_shards_meet_on_one_branch(place: Place, hub: Path, tmp_path: Path) -> None:
    """Each runs its part; the branch's status has all of them, without a work tree."""
    place.registry("succeed.a", "succeed.b", "succeed.c")
    runs = [
        subprocess.Popen(
            place.line(
                "--snapshot",
                "--remote",
                str(hub),
                "--shard",
                f"{number}/3",
                "--progress-dir",
                str(tmp_path / f"shard-{number}"),
            ),
            cwd=place.folder,
            env=place.environ(),
            stdout=subprocess.DEVNULL,
        )
        for number in (1, 2, 3)
    ]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    shown = subprocess.run(
        [sys.executable, "-m", "runner", "status", "--branch", BRANCH, "--remote", str(hub)],
        cwd=place.folder,
        env=place.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.rstrip().endswith("3 of 3 evals finished")
    assert not (place.progress / "oaievalset").exists()


def test_a_secret_that_an_eval_prints_stays_on_the_host(place: Place, hub: Path) -> None:
    """The value of a variable that was passed in, in a console log."""
    place.registry("look.a")
    run = place.run("--snapshot", "--remote", str(hub), "-e", "MY_KEY", MY_KEY="hunter2-hunter2")
    assert run.returncode == 0, run.stderr
    names = git(hub, "ls-tree", "-r", "--name-only", BRANCH).splitlines()
    for name in names:
        assert "hunter2" not in git(hub, "show", f"{BRANCH}:{name}")
    held = next(p for p in place.layout.evallogs.iterdir() if b"hunter2" in p.read_bytes())
    assert f"evallogs/{held.name}" not in names
    assert held.name in run.stdout + run.stderr
    assert "hunter2" not in run.stdout + run.stderr


def test_a_second_signal_ends_a_push_that_takes_long(place: Place, hub: Path) -> None:
    """Whoever stops a job gives it seconds: exit as after the first, and how to push later."""
    place.registry("wait.a")
    with place.running("--snapshot", "--remote", str(hub), "--grace", "1s") as run:
        place.until_running(1)
        hook = hub / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {hub}/begun\nexec sleep 60\n")
        hook.chmod(0o755)
        run.send_signal(signal.SIGINT)
        until((hub / "begun").exists)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=20)
    assert run.returncode == 130, said
    assert "push it later with `evalset snapshot push m s" in said


def test_a_run_says_where_its_snapshots_are(place: Place, hub: Path) -> None:
    """Also that they are on this host alone, where they are of little use."""
    place.registry("succeed.a", "succeed.b")
    alone = place.run("--snapshot", "--select", "succeed.a")
    assert "in " in alone.stdout
    assert "alone: there is no remote to push it to (--remote)" in alone.stdout
    pushed = place.run("--snapshot", "--remote", str(hub))
    assert pushed.stdout.splitlines()[-1] == f"the last snapshot is on the branch {BRANCH} at {hub}"
    preview = place.run("--snapshot", "--remote", str(hub), "--dry-run")
    assert preview.stdout.startswith(f"branch {BRANCH} at {hub}\n")


def test_what_a_finished_eval_has_printed_stays_on_the_host(place: Place, hub: Path) -> None:
    """Also if no eval that is left to run gets the variable, and if it is passed in no more."""
    place.registry("look.a", "succeed.b", "succeed.c", containers={"look.a": {"env": ["MYVAR"]}})
    run = place.run("--select", "look.a", MYVAR="hunter2-hunter2")
    assert run.returncode == 0, run.stderr
    run = place.run(
        "--snapshot", "--remote", str(hub), "--select", "succeed.b", MYVAR="hunter2-hunter2"
    )
    assert run.returncode == 0, run.stderr
    run = place.run("--snapshot", "--remote", str(hub))
    assert run.returncode == 0, run.stderr
    assert "hunter2" not in git(hub, "log", "--patch", "--text", BRANCH)
    held = [path for path in place.layout.evallogs.iterdir() if b"hunter2" in path.read_bytes()]
    assert len(held) == 1

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.engine.labels import Label
from runner.image.image import find_image
from runner.records.layout import Layout
from tests.conftest import Place, engine_api, until
from tests.run.pinned import recorded

pytestmark = pytest.mark.docker

Line = dict[str, object]
QUIET = "missing_report.a"


def run(place: Place, *evals: str) -> None:
    """Run evals, with a record of a gateway that was asked nothing."""
    place.registry(*evals)
    place.run()
    change(place, lambda line: line.update(spending={"requests": 0}))


def change(place: Place, edit: Callable[[Line], object]) -> None:
    """Change each line of the attempts file."""
    path = place.layout.attempts
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def verified(place: Place, *options: str) -> "subprocess.CompletedProcess[str]":
    """Verify, and see that the record is only read, and that nothing is left."""
    before = recorded(place)
    folder = ("--registry-path", str(place.folder / "registry"))
    ended = place.ask("verify", "m", "s", *folder, *options)
    assert recorded(place) == before
    return ended


def test_an_eval_that_asks_nothing_is_run_again(place: Place) -> None:
    """It needs no answers; without a difference the exit code is 0."""
    run(place, QUIET)
    ended = verified(place)
    assert ended.returncode == 0, ended
    assert ended.stdout.splitlines() == [
        f"same         {QUIET}  (0 samples, 0 answers)",
        "not compared: times, run_id, event_id, created_by",
        "same: 1",
    ]
    assert f"finished {QUIET}" in ended.stderr


def test_a_report_that_differs_is_found(place: Place) -> None:
    """Every run of this eval reports other times; the samples are the same."""
    run(place, "succeed.a")
    ended = verified(place, "--json")
    found = json.loads(ended.stdout)
    assert ended.returncode == 1
    (one,) = found["evals"]
    assert (one["verdict"], one["samples"]) == ("differs", 1)
    assert [each["where"] for each in one["differences"]] == [
        "final report, started",
        "final report, ended",
    ]
    assert found["counts"] == {"differs": 1}


def test_only_what_is_selected_is_run(place: Place) -> None:
    """What is not finished is skipped, and said."""
    run(place, QUIET, "missing_report.b", "fail.1")
    ended = verified(place, "--select", "*.b")
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith("same         missing_report.b")
    assert QUIET not in ended.stdout + ended.stderr
    assert ended.stdout.endswith("\nsame: 1, not finished, and skipped: 1\n")


def test_other_registry_content_is_no_ground_for_a_verdict(place: Place) -> None:
    """The eval whose data was changed is not run; the other one is."""
    folder = place.registry(QUIET, "missing_report.b")
    specs = {QUIET: {"class": "a:B", "args": {"of": "own"}}, "missing_report.b": {"class": "a:B"}}
    (folder / "evals/all.yaml").write_text(json.dumps(specs))
    (folder / "data").mkdir()
    (folder / "data/own").write_text("one")
    place.run()
    change(place, lambda line: line.update(spending={"requests": 0}))
    (folder / "data/own").write_text("two")
    ended = verified(place)
    assert ended.returncode == 3
    first, second = ended.stdout.splitlines()[:2]
    assert first.startswith(f"cannot tell  {QUIET}: registry content of {QUIET}: ")
    assert second.startswith("same         missing_report.b")


def test_another_image_is_no_ground_for_a_verdict(place: Place, other_image: str) -> None:
    """The name has another content now; where there is none, nothing is run."""
    place.registry(QUIET)
    place.run(EVALSET_IMAGE=other_image)
    change(place, lambda line: line.update(spending={"requests": 0}))
    api = engine_api()
    old = find_image(api, other_image).id[7:19]
    api.remove_image(other_image, force=True)
    ended = verified(place)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert f"the image {other_image}, in which these evals were run, is not here" in ended.stderr
    repository, _, tag = other_image.partition(":")
    api.tag(place.image, repository, tag)
    ended = verified(place)
    assert ended.returncode == 3
    assert ended.stdout.startswith(f"cannot tell  {QUIET}: image: {other_image} (id {old}) before")
    assert "started" not in ended.stderr


@pytest.mark.parametrize(
    ("network", "code", "verdict"),
    [("evalset", 3, "cannot tell"), ("none", 1, "differs")],
)
def test_a_rerun_that_fails_proves_something_only_without_a_network_before(
    place: Place, network: str, code: int, verdict: str
) -> None:
    """Else the missing network may be why."""
    run(place, "fail.1")
    change(place, lambda line: line.update(result="success", logs=["evallogs/1_m_fail.1.jsonl"]))
    (place.layout.evallogs / "1_m_fail.1.jsonl").write_text('{"spec": {}}\n')
    (line,) = place.layout.attempts.read_text().splitlines()
    place.layout.progress.write_text(json.dumps(json.loads(line)["command"]) + "\n")
    pins = json.loads(place.layout.run.read_text()) | {"network": network}
    place.layout.run.write_text(json.dumps(pins))
    ended = verified(place)
    assert ended.returncode == code, ended
    assert ended.stdout.startswith(verdict)
    assert "exited with status 1: " in ended.stdout


def test_a_branch_is_verified_without_its_progress_directory(place: Place) -> None:
    """Whoever has the branch has all that it takes."""
    run(place, QUIET)
    taken = place.run("--snapshot")
    assert taken.returncode == 0, taken
    elsewhere = place.folder / "elsewhere"
    place.progress.joinpath(".snapshots.git").rename(place.folder / "there.git")
    ended = place.ask(
        "verify",
        *("m", "s", "--branch", "evalset/m.s", "--snapshot-repo", str(place.folder / "there.git")),
        *("--registry-path", str(place.folder / "registry")),
        *("--progress-dir", str(elsewhere)),
    )
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith(f"same         {QUIET}")
    assert not elsewhere.exists()
    layout = Layout(root=elsewhere, model="m", eval_set="s")
    assert not layout.lock.exists()


def test_what_a_killed_verification_left_goes_with_the_next(place: Place) -> None:
    """Its containers and its gateway: no run would take them over."""
    place.registry("wait.a", QUIET)
    with place.running() as process:
        place.until_running(1)
        place.let_go()
        assert process.wait(60) == 0
    change(place, lambda line: line.update(spending={"requests": 0}))
    folder = ("--registry-path", str(place.folder / "registry"))
    line = place.line("m", "s", *folder, "--select", "wait.a", command="verify")
    with subprocess.Popen(
        line, cwd=place.folder, env=place.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as killed:
        try:
            (root,) = until(lambda: roots_of("wait.a"))
            (gateway,) = (Path(root) / ".gateway").iterdir()
            until((gateway / "pid").exists)
            pid = int(until((gateway / "pid").read_text))
        finally:
            killed.kill()
            killed.communicate()
    assert roots_of("wait.a") == {root}
    assert verified(place, "--select", QUIET).returncode == 0
    assert roots_of("wait.a") == set()
    assert not Path(root).parent.exists()
    until(lambda: not Path(f"/proc/{pid}").exists())


def roots_of(name: str) -> set[str]:
    """The progress directories of reruns whose container of an eval runs."""
    command = json.dumps(["/bin/program", "m", name, "--registry_path", "/registry/0"])
    listed = engine_api().containers(filters={"label": f"{Label.COMMAND}={command}"})
    found = {about["Labels"][Label.PROGRESS] for about in listed}
    return {root for root in found if Path(root).parent.name.startswith("evalset-verify-")}

import json
import re
import subprocess

import msgspec
import pytest

from runner.image.image import look_up_image
from runner.model import Fault, Result
from runner.records.run_file import read_run_file
from tests.conftest import Place, engine_api, impatient, until

pytestmark = pytest.mark.docker

# A program that writes down how often it opens which of a run's files to read them.
COUNTING = """
import atexit, json, os, sys
from collections import Counter
from pathlib import Path
opened = Counter()
def note(event, about):
    if event == "open" and "/oaievalset/" in str(about[0]) and not about[2] & os.O_ACCMODE:
        opened[os.path.basename(about[0])] += 1
sys.addaudithook(note)
atexit.register(lambda: Path("opened").write_text(json.dumps(opened)))
from runner import cli
cli.main()
"""


def test_evals_run_in_order_and_are_recorded(place: Place) -> None:
    """Each success is a line of the progress file, as upstream writes it, and an attempt."""
    place.registry("succeed.b", "succeed.a")
    ended = place.run("--jobs", "1", "--seed", "7")
    assert (ended.returncode, ended.stderr) == (0, "")
    commands = [
        ["/bin/program", "m", name, "--seed", "7", "--registry_path", "/registry/0"]
        for name in ("succeed.b", "succeed.a")
    ]
    text = "".join(f"{json.dumps(command)}\n" for command in commands)
    assert place.layout.progress.read_text() == text
    assert [record.eval for record in place.records()] == ["succeed.b", "succeed.a"]
    assert "2 of 2 evals finished" in ended.stdout


def test_a_second_run_starts_nothing(place: Place) -> None:
    """With all done it says so, exits 0, and makes no attempt."""
    place.registry("succeed.a")
    place.run()
    ended = place.run()
    assert ended.returncode == 0
    assert "nothing to run; finished: 1 eval" in ended.stdout
    assert len(place.records()) == 1


def test_the_files_of_a_run_are_read_only_where_they_have_changed(place: Place) -> None:
    """Before it, with its lock if it has made them, and after it; run.json when it is replaced."""
    counting = msgspec.structs.replace(place, program=("-c", COUNTING))

    def opened() -> list[int]:
        assert counting.run("--jobs", "1").returncode == 0
        found = json.loads((place.folder / "opened").read_text())
        names = ("progress.txt", "attempts.jsonl", "run.json")
        return [found[f"m.s.{name}"] for name in names]

    place.registry("succeed.a", "succeed.b")
    assert opened() == [2, 2, 2]
    place.registry("succeed.a", "succeed.b", "succeed.c")
    assert opened() == [2, 2, 3]
    assert opened() == [1, 1, 1]


def test_an_attempt_on_record_says_what_happened(place: Place) -> None:
    """Result, exit code, duration, image, logs, console log, score and samples are there."""
    place.registry("sleep.1")
    assert place.run().returncode == 0
    (record,) = place.records()
    assert (record.result, record.fault, record.exit_code) == (Result.SUCCESS, None, 0)
    assert 1 <= record.duration < 10
    assert record.started_at
    assert record.started_at < record.ended_at
    assert record.image == look_up_image(engine_api(), place.image).id  # type: ignore[union-attr]
    assert record.samples == 1
    assert record.final_report
    (log,) = record.logs
    assert re.fullmatch(r"evallogs/[0-9a-f]+_m_sleep\.1\.jsonl", log)
    assert json.loads((place.progress / log).read_text().splitlines()[0]) == {
        "spec": {"eval_name": "sleep.1"}
    }
    assert record.console_log
    assert (place.progress / record.console_log).read_bytes() == b""


def test_a_run_is_pinned(place: Place) -> None:
    """The run's file names image, plan and limits."""
    place.registry("succeed.a", "succeed.b")
    place.run("--pids-limit", "99", "--shard", "1/1")
    pinned = read_run_file(place.layout.run)
    assert pinned
    assert pinned.image == place.image
    assert [command[2] for command in pinned.commands] == ["succeed.a", "succeed.b"]
    assert pinned.limits["pids_limit"] == 99
    assert pinned.shard == "1/1"


def test_a_person_knows_a_container_by_its_name(place: Place) -> None:
    """In `docker ps`: the eval, and the attempt that the records have."""
    place.registry("wait.a@b")
    with place.running() as run:
        place.until_running(1)
        (container,) = place.containers()
        name = engine_api().inspect_container(container)["Name"]
        place.let_go()
        assert run.wait(60) == 0
    (record,) = place.records()
    assert name == f"/evalset-wait.a-b-{record.id}"


def test_no_more_than_jobs_run_at_once(place: Place) -> None:
    """With `--jobs 2`, two of four evals run together, and never three."""
    place.registry(*(f"sleep.1.{number}" for number in range(4)))
    assert place.run("--jobs", "2").returncode == 0
    spans = [(report["started"], report["ended"]) for report in place.reports().values()]
    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]  # type: ignore[operator]
    assert max(at_once) == 2


def test_nothing_starts_after_a_failure(place: Place) -> None:
    """By default a failure keeps new evals from starting; running ones end and are recorded."""
    place.registry("fail.3", "wait.a", "succeed.later")
    with place.running("--jobs", "2") as run:
        place.until_running(1)
        until(place.records)
        place.let_go()
        out, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert place.finished() == ["wait.a"]
    assert {record.eval for record in place.records()} == {"fail.3", "wait.a"}
    assert "stopping at the first failure; 1 not started" in out


def test_the_rest_runs_where_errors_do_not_stop(place: Place) -> None:
    """With `--no-exit-on-error` all are attempted, only successes are progress, exit 1."""
    place.registry("fail.3", "succeed.a", "fail.4")
    ended = place.run("--jobs", "1", "--no-exit-on-error")
    assert ended.returncode == 1
    assert place.finished() == ["succeed.a"]
    assert [(each.eval, each.exit_code) for each in place.records()] == [
        ("fail.3", 3),
        ("succeed.a", 0),
        ("fail.4", 4),
    ]


def test_a_failed_eval_runs_again(place: Place) -> None:
    """The next run attempts what failed, and only that."""
    place.registry("succeed.a", "fail.3")
    place.run("--jobs", "1")
    place.run("--jobs", "1")
    assert [record.eval for record in place.records()] == ["succeed.a", "fail.3", "fail.3"]


def test_a_failure_is_shown_with_its_output(place: Place) -> None:
    """The reason, the last lines and the whole output's place are said and kept."""
    place.registry("fail.3")
    ended = place.run()
    (record,) = place.records()
    assert (record.result, record.fault) == (Result.FAILURE, Fault.EVAL)
    assert record.reason == "exited with status 3"
    assert record.console_log
    kept = (place.progress / record.console_log).read_text()
    assert sorted(kept.splitlines()) == ["about to fail", "this is why"]
    for said in (
        "exited with status 3",
        "| this is why",
        f"whole output: progress/{record.console_log}",
    ):
        assert said in ended.stdout
    assert ended.stdout.count("to run") == 1


def test_a_run_that_finds_nothing_to_do_says_so_once(place: Place) -> None:
    """And one of a part of the set says how many evals the whole has."""
    place.registry("succeed.a", "succeed.b")
    assert "1 of 1 eval finished (2 in the eval set)" in place.run("--select", "*a").stdout
    status = place.ask("status", "m", "s").stdout
    assert status.endswith("1 of 1 eval finished; the last plan has 1 of the eval set's 2 evals\n")
    assert place.run("--select", "*a").stdout == "nothing to run; finished: 1 eval\n"


def test_an_eval_is_not_tried_again_for_its_own_fault(place: Place) -> None:
    """`--retries` is for the environment's faults."""
    place.registry("fail.3")
    place.run("--retries", "5")
    assert len(place.records()) == 1


def test_an_eval_that_needs_more_memory_says_so(place: Place) -> None:
    """The limit and the option that raises it are in the reason."""
    place.registry("eat.v0")
    assert place.run().returncode == 1
    (record,) = place.records()
    assert record.oom_killed
    assert record.fault is Fault.EVAL
    assert record.reason == ("needed more memory than its limit of 64 MiB (raise it with --memory)")


def test_an_eval_that_ignores_signals_ends_at_its_time_limit(place: Place) -> None:
    """It is asked to end, and killed when it does not; the others continue meanwhile."""
    place.registry("deaf.v0", "succeed.a")
    ended = impatient(place).run("--timeout", "1s", "--jobs", "2", "--no-exit-on-error")
    assert ended.returncode == 1
    failed = next(record for record in place.records() if record.eval == "deaf.v0")
    assert failed.reason == "ran longer than its time limit of 1 s (--timeout)"
    assert failed.exit_code == 137
    assert 1 < failed.duration < 8
    assert place.finished() == ["succeed.a"]


def test_a_success_without_a_report_is_a_success_with_a_warning(place: Place) -> None:
    """Some commands report nothing."""
    place.registry("missing_report.v0", "silent.v0")
    ended = place.run()
    assert ended.returncode == 0
    assert sorted(place.finished()) == ["missing_report.v0", "silent.v0"]
    assert [record.warnings for record in place.records()] == [("its log has no final_report",)] * 2
    assert "warning: its log has no final_report" in ended.stdout


def test_a_second_live_run_is_refused(place: Place) -> None:
    """It says which process of which host holds the set, exits 3, and disturbs nothing."""
    place.registry("wait.a")
    with place.running() as run:
        place.until_running(1)
        ended = place.run()
        assert ended.returncode == 3
        assert f"held by process {run.pid} on " in ended.stderr
        assert ended.stderr.count("\n") == 1
        place.let_go()
        assert run.wait(20) == 0
    assert len(place.records()) == 1


def test_a_model_with_a_slash_gets_subfolders(place: Place) -> None:
    """As upstream does, in the records and in the logs."""
    place.registry("succeed.a")
    line = place.line()
    line[line.index("m", 4)] = "org/model"
    subprocess.run(line, check=True, capture_output=True, cwd=place.folder, env=place.environ())
    assert (place.progress / "oaievalset/org/model.s.progress.txt").is_file()
    assert list(place.progress.glob("evallogs/*_org/model_succeed.a.jsonl"))
    assert list(place.progress.glob("evallogs/*_org/model_succeed.a.console.log"))

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading

import pytest

from runner.execute import image
from runner.execute.labels import Label
from runner.job import Fault, Result
from runner.record import run_file
from tests.conftest import Place, engine_api, impatient, until

pytestmark = pytest.mark.docker


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


def test_an_attempt_on_record_says_what_happened(place: Place) -> None:
    """Result, exit code, duration, image, logs, console log, score and samples are there."""
    place.registry("sleep.1")
    assert place.run().returncode == 0
    (record,) = place.records()
    assert (record.result, record.fault, record.exit_code) == (Result.SUCCESS, None, 0)
    assert 1 <= record.duration < 10
    assert record.started_at
    assert record.started_at < record.ended_at
    assert record.image == image.look(engine_api(), place.image).id  # type: ignore[union-attr]
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
    pinned = run_file.read(place.layout.run)
    assert pinned
    assert pinned.image == place.image
    assert [command[2] for command in pinned.commands] == ["succeed.a", "succeed.b"]
    assert pinned.limits["pids_limit"] == 99
    assert pinned.shard == "1/1"


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
    assert status.endswith("1 done; the last plan has 1 of the eval set's 2 evals\n")
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
    """It is asked to end, and killed when it does not; the others go on meanwhile."""
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


def test_an_image_without_the_command_is_said(place: Place) -> None:
    """One line names image, command and options; exit 3; nothing is left in the way."""
    place.registry("succeed.a", "succeed.b")
    ended = place.run("--run-command", "/bin/no-such-thing")
    assert ended.returncode == 3
    assert ended.stderr == (
        f"Error: image {place.image} has no command '/bin/no-such-thing' that can run; "
        "choose another --image or --run-command\n"
    )
    assert place.leftovers() == []
    assert place.run().returncode == 0


def test_a_missing_image_is_said(place: Place) -> None:
    """An image that is neither here nor to be had: one line, exit 3, nothing written."""
    place.registry("succeed.a")
    ended = place.run("--image", "127.0.0.1:1/none:1")
    assert ended.returncode == 3
    assert ended.stderr.startswith("Error: the image 127.0.0.1:1/none:1 is not here")
    assert ended.stderr.count("\n") == 1
    assert not place.progress.exists()


def test_a_missing_network_is_said(place: Place) -> None:
    """One line says how to create it; exit 3; nothing is left behind."""
    place.registry("succeed.a")
    ended = place.run("--network", "no-such-network")
    assert ended.returncode == 3
    assert ended.stderr == (
        "Error: the engine has no network 'no-such-network'; create it "
        "(`docker network create no-such-network`)\n"
    )
    assert place.leftovers() == []


def test_without_an_engine_the_run_says_what_to_do(place: Place) -> None:
    """No engine at the address: one line with the address and the cure, exit 3."""
    place.registry("succeed.a")
    socket = place.folder / "no.sock"
    ended = place.run(DOCKER_HOST=f"unix://{socket}")
    assert ended.returncode == 3
    assert str(socket) in ended.stderr
    assert "scripts/engine" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_environments_fault_is_tried_again_and_exits_with_3(place: Place) -> None:
    """What the engine refuses is no failure of the eval; it is attempted within `--retries`."""
    place.registry("succeed.a")
    ended = impatient(place).run("--network", "container:gone", "--retries", "2")
    assert ended.returncode == 3
    assert [(each.result, each.fault) for each in place.records()] == [
        (Result.LOST, Fault.ENVIRONMENT)
    ] * 3
    assert "the Docker engine refused: " in ended.stdout
    assert ended.stdout.count("again in a moment") == 2


def test_rules_of_a_registry_reach_the_containers(place: Place) -> None:
    """`containers/*.yaml` gives evals of a pattern an image, limits, network and variables."""
    other = "evalset/test:other"
    engine_api().tag(place.image, "evalset/test", "other")
    rule = {
        "image": other,
        "memory": "100m",
        "pids_limit": 33,
        "cpus": 0.5,
        "network": "bridge",
        "env": ["MINE"],
    }
    place.registry("wait.a", "wait.b", containers={"*.b": rule})
    try:
        with place.running("--jobs", "2", MINE="mine") as run:
            place.until_running(2)
            about = {}
            for container in place.containers():
                found = engine_api().inspect_container(container)
                about[json.loads(found["Config"]["Labels"][Label.COMMAND])[2]] = found
            place.let_go()
            assert run.wait(20) == 0
    finally:
        engine_api().remove_image(other)
    plain, ruled = about["wait.a"]["HostConfig"], about["wait.b"]["HostConfig"]
    assert (plain["Memory"], plain["NetworkMode"]) == (64 << 20, "none")
    assert (ruled["Memory"], ruled["NetworkMode"]) == (100 << 20, "bridge")
    assert (ruled["PidsLimit"], ruled["NanoCpus"]) == (33, 500_000_000)
    assert "MINE=mine" in about["wait.b"]["Config"]["Env"]
    assert "MINE=mine" not in about["wait.a"]["Config"]["Env"]


def test_a_rules_variable_that_is_not_set_is_said(place: Place) -> None:
    """A name in `containers/*.yaml` without a value on the host: one line, exit 2, no container."""
    place.registry("succeed.a", containers={"*": {"env": ["NOT_SET_HERE"]}})
    ended = place.run()
    assert ended.returncode == 2
    assert "NOT_SET_HERE" in ended.stderr
    assert place.records() == []


def test_variables_are_handed_in_by_name_and_by_file(place: Place) -> None:
    """`-e NAME` takes the host's value, `--env-file` a file's; no value is in labels or records."""
    place.registry("look.v0")
    (place.folder / "env").write_text("# mine\nBY_FILE=a b=c\nTAKEN\n")
    ended = place.run(
        "-e", "BY_NAME", "--env-file", "env", BY_NAME="name-1", TAKEN="taken-2", OTHER="o"
    )
    assert ended.returncode == 0, ended.stderr
    environment = place.reports()["look.v0"]["environment"]
    assert isinstance(environment, dict)
    assert environment["BY_NAME"] == "name-1"
    assert environment["BY_FILE"] == "a b=c"
    assert environment["TAKEN"] == "taken-2"
    assert "OTHER" not in environment
    assert all(value not in place.layout.run.read_text() for value in ("name-1", "taken-2"))


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
    found = run_file.read(place.layout.run)
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
    assert place.run("--no-resume").returncode == 0
    assert place.finished() == ["succeed.a"]
    assert len(list(place.progress.rglob("*progress.txt*"))) == 2


def test_status_shows_what_runs(place: Place) -> None:
    """While a run goes on, its evals are `running`; later they are `done`."""
    place.registry("succeed.a", "wait.b", "succeed.c")
    with place.running("--jobs", "1") as run:
        place.until_running(1)
        asked = json.loads(place.ask("status", "m", "s", "--json").stdout)
        place.let_go()
        assert run.wait(20) == 0
    assert {row["eval"]: row["state"] for row in asked["evals"]} == {
        "succeed.a": "done",
        "wait.b": "running",
        "succeed.c": "to do",
    }


def test_logs_follow_a_running_eval(place: Place) -> None:
    """`evalset logs -f` prints what there is, then what comes, and ends with the eval."""
    place.registry("wait.b")
    with place.running() as run:
        place.until_running(1)
        line = place.line("m", "s", "wait.b", "-f", command="logs")
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, cwd=place.folder, env=place.environ()
        ) as logs:
            assert logs.stdout
            assert logs.stdout.readline() == b"waiting\n"
            place.let_go()
            assert logs.stdout.read() == b"told to go\n"
            assert logs.wait(20) == 0
        assert run.wait(20) == 0
    assert place.ask("logs", "m", "s", "wait.b").stdout == "waiting\ntold to go\n"


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


def test_a_terminal_shows_samples_while_an_eval_runs(place: Place) -> None:
    """Its line counts along with the eval's own progress bar."""
    place.registry("bar.v0")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = b""
    with subprocess.Popen(
        place.line(), stdout=theirs, cwd=place.folder, env=place.environ(TERM="xterm")
    ) as run:
        os.close(theirs)
        while b"7/7 samples" not in shown:
            assert select.select([ours], [], [], 20)[0], shown
            shown += os.read(ours, 65536)
        place.let_go()
        reader = threading.Thread(target=_drain, args=(ours,))
        reader.start()
        assert run.wait(20) == 0
        reader.join()
    os.close(ours)


def _drain(terminal: int) -> None:
    """Read what nobody looks at, so that its writer does not wait."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass

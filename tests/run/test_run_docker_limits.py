import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runner.model import Fault, Result
from tests.conftest import Place, engine_api, until

pytestmark = pytest.mark.docker
# Opens files, removes their names, and holds them.
HOLD = """
import os, time
files = [open(f"/tmp/held{number}", "wb") for number in range(3)]
for file in files:
    os.unlink(file.name)
    file.write(bytes(1 << 20))
    file.flush()
time.sleep(60)
"""


def watchful(place: Place, **changes: object) -> Place:
    """The same place for a program that looks at each `/tmp` soon and often."""
    values = {"INTERVAL": 0.1, **changes}
    code = (
        "from runner import cli; from runner.engine import live; "
        f"vars(live).update({values}); cli.main()"
    )
    return msgspec.structs.replace(place, program=("-c", code))


def test_an_eval_that_fills_its_tmp_is_killed(place: Place) -> None:
    """It is its own failure, with the limit and the option that raises it; the others continue."""
    place.registry("wait.a", "succeed.b")
    with watchful(place).running("--tmp-limit", "2m", "--jobs", "1", "--no-exit-on-error") as run:
        (private,) = place.until_running(1)
        much = place.folder / "much"
        much.write_bytes(bytes(3 << 20))
        much.rename(private / "much")  # whole at once, because somebody looks at any moment
        assert run.wait(20) == 1
    failure, success = place.records()
    assert (failure.result, failure.fault, failure.exit_code) == (Result.FAILURE, Fault.EVAL, 137)
    assert failure.reason.startswith("had 3 MiB in its /tmp, over its limit of 2 MiB")
    assert "--tmp-limit" in failure.reason
    assert success.result is Result.SUCCESS


def test_a_file_without_a_name_counts_for_as_long_as_it_is_open(place: Place) -> None:
    """No walk of the folder finds it, though it takes the disk's space."""
    place.registry("wait.a")
    with watchful(place).running("--tmp-limit", "2m") as run:
        (private,) = place.until_running(1)
        (container,) = place.containers()
        api = engine_api()
        held = api.exec_create(container, ["python3", "-c", HOLD])["Id"]
        api.exec_start(held, detach=True)
        assert run.wait(20) == 1
    assert not private.exists()
    (record,) = place.records()
    assert record.reason.startswith("had 3 MiB in its /tmp")


def test_an_eval_may_not_make_files_without_end(place: Place) -> None:
    """Empty ones take no space, but the file system has so many and no more."""
    place.registry("wait.a")
    with watchful(place, MOST_FILES=100).running() as run:
        (private,) = place.until_running(1)
        for number in range(120):
            (private / str(number)).touch()
        assert run.wait(20) == 1
    (record,) = place.records()
    assert "files in its /tmp, over the limit of 100" in record.reason


def test_no_file_is_larger_than_tmp_may_be(place: Place) -> None:
    """The kernel refuses, so that no look can come too late; the reason names the option."""
    place.registry("wait.a")
    with place.running("--tmp-limit", "2m") as run:
        place.until_running(1)
        (container,) = place.containers()
        limits = {each["Name"]: each["Hard"] for each in host_config(container)["Ulimits"]}
        assert limits == {"fsize": 2 << 20}
        place.let_go(153)
        assert run.wait(20) == 1
    (record,) = place.records()
    assert record.reason == (
        "exited with status 153: a file larger than --tmp-limit (2 MiB; raise it)"
    )


def host_config(container: str) -> dict[str, list[dict[str, object]]]:
    """What the engine made of a container's limits."""
    found: dict[str, list[dict[str, object]]] = engine_api().inspect_container(container)[
        "HostConfig"
    ]
    return found


def test_a_rule_gives_an_eval_more_room(place: Place) -> None:
    """`tmp_limit` in containers/*.yaml counts for the evals that it names."""
    place.registry("wait.a", containers={"wait.*": {"tmp_limit": "8m"}})
    with watchful(place).running() as run:
        (private,) = place.until_running(1)
        (private / "much").write_bytes(bytes(3 << 20))
        assert (run.poll(), len(place.containers())) == (None, 1)
        (private / "more").write_bytes(bytes(6 << 20))
        assert run.wait(20) == 1
    (record,) = place.records()
    assert "over its limit of 8 MiB" in record.reason


def test_failures_alike_in_a_row_end_a_run(place: Place) -> None:
    """The common reason is said with the end of one log, at the end again, and exit 1."""
    names = [f"fail.3.{letter}" for letter in "abcdefgh"]
    place.registry(*names)
    ended = place.run("--no-exit-on-error", "--jobs", "1", "--max-failures", "3")
    assert ended.returncode == 1
    assert [record.eval for record in place.records()] == names[:3]
    # The last line is that of either stream, because the two mix as they like.
    last = ended.stdout.rpartition("status 3: ")[2].partition(")")[0]
    assert last in {"about to fail", "this is why"}
    why = (
        f"3 evals in a row failed alike (exited with status 3: {last}), so 5 more not started; "
        "fix that and run the same command again (--max-failures 0 continues whatever fails)"
    )
    assert f"warning: {why}\n    | " in ended.stdout
    assert ended.stdout.rstrip().endswith(why)


def test_failures_that_differ_end_no_run(place: Place) -> None:
    """Nor do those with a success between them, nor any with `--max-failures 0`."""
    place.registry("fail.1", "fail.2", "fail.2.a", "succeed.a", "fail.2.b", "fail.2.c", "fail.3")
    ended = place.run("--no-exit-on-error", "--jobs", "1", "--max-failures", "3")
    assert (ended.returncode, len(place.records())) == (1, 7)
    assert "alike" not in ended.stdout
    place.run("--no-exit-on-error", "--jobs", "1", "--max-failures", "0")
    assert len(place.records()) == 13


@contextlib.contextmanager
def undying(container: str) -> Iterator[None]:
    """Freeze a container's processes such that the engine cannot thaw them: no signal arrives."""
    freezer = Path("/sys/fs/cgroup/freezer")
    if not freezer.exists() or os.geteuid() != 0:
        pytest.skip("only root on a host with cgroups v1 can make a container that does not die")
    ours = freezer / f"evalset-test-{os.getpid()}"
    ours.mkdir()
    state = ours / "freezer.state"
    try:
        for process in engine_api().top(container, "-eo pid")["Processes"]:
            (ours / "cgroup.procs").write_text(process[0])
        state.write_text("FROZEN")
        yield
    finally:
        state.write_text("THAWED")
        until(lambda: not (ours / "cgroup.procs").read_text())
        ours.rmdir()


def test_a_container_that_cannot_be_killed_holds_nobody_up(place: Place) -> None:
    """It is reported, leaves its slot to the next one, and is removed by a later run."""
    place.registry("wait.a", "succeed.b")
    code = (
        "from runner import cli; from runner.engine import container; "
        "container.STOP_TIME = container.KILL_TIME = 1; cli.main()"
    )
    hasty = msgspec.structs.replace(place, program=("-c", code))
    with hasty.running("--timeout", "3s", "--jobs", "1", "--no-exit-on-error") as run:
        place.until_running(1)
        (container,) = place.containers()
        with undying(container):
            assert run.wait(40) == 1
    failure, success = place.records()
    assert failure.result is Result.FAILURE
    assert failure.reason.startswith("ran longer than its time limit of 3 s (--timeout), and canno")
    assert failure.logs == ()
    assert success.result is Result.SUCCESS
    until(lambda: not place.containers(every=False))
    assert place.containers() == [container]
    assert place.run("--select", "succeed.b").returncode == 0
    assert place.leftovers() == []


def test_memory_that_ran_out_says_limit_and_option(place: Place) -> None:
    """The reader learns what to raise."""
    place.registry("eat.a")
    assert place.run("--memory", "32m").returncode == 1
    (record,) = place.records()
    assert record.oom_killed
    assert record.reason == "needed more memory than its limit of 32 MiB (raise it with --memory)"

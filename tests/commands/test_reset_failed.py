"""`evalset reset --failed` removes failures from the record, not results; without an engine."""

import json
import re
from pathlib import Path
from typing import Any

from runner.records.layout import Layout
from runner.records.run_lock import run_lock
from tests.commands.conftest import Here
from tests.commands.test_records import A, B, C, answer, record

FAILED = {"result": "failure", "fault": "eval", "exit_code": 1, "reason": "exited with status 1"}

# What a mistyped argument makes of the commands.
MISTYPED = [[*command, "--max_smaples", "5"] for command in (A, B, C)]

RESET = ("reset", "dummy", "mine", "--failed")

DATED = re.compile(r"\.\d{8}T\d{6}\.\d{6}Z$")


def failed(command: list[str], attempt: str, **changes: object) -> str:
    """A line of an attempts file about a failure."""
    return record(command, **(FAILED | {"attempt": attempt} | changes))


def attempts_file(here: Here) -> Path:
    """That of `dummy mine`."""
    return here.folder / "progress/oaievalset/dummy.mine.attempts.jsonl"


def put(here: Here, *lines: str, planned: list[list[str]] | None = None) -> None:
    """Put attempts on record, and the commands of the newest plan."""
    attempts_file(here).write_text("".join(lines))
    if planned is not None:
        run = {"run": "r", "model": "dummy", "eval_set": "mine", "image": "i", "image_id": "i"}
        content: dict[str, Any] = {"runner": "0", "commands": planned, "limits": {}}
        content |= {"in_eval_set": 3, "registry": {"0123": "d"}, "settings": {}, "generation": 4}
        here.put("progress/oaievalset/dummy.mine.run.json", json.dumps(run | content))


def states(here: Here) -> dict[str, list[str]]:
    """The rows of `status`, by state."""
    found: dict[str, list[str]] = {}
    for row in answer(here, "status", "dummy", "mine")["evals"]:
        found.setdefault(row["state"], []).append(f"{row['eval']} {row['arguments']}".strip())
    return found


def kept(here: Here) -> dict[str, bytes]:
    """The dated files, by the name that they had."""
    found = [path for path in here.progress.parent.iterdir() if DATED.search(path.name)]
    return {DATED.sub("", path.name): path.read_bytes() for path in found}


def test_a_mistyped_run_is_gone_once_the_right_one_has_run(here: Here) -> None:
    """Its rows, not those of what is finished and what the newest plan has to do."""
    mistyped = [failed(command, f"m{number}") for number, command in enumerate(MISTYPED)]
    good = [record(A, attempt="1"), record(B, attempt="2"), failed(C, "3")]
    put(here, *mistyped, *good, planned=[A, B, C])
    assert len(states(here)["failed"]) == 4
    before = (here.folder / "progress/oaievalset/dummy.mine.run.json").read_bytes()
    ended = here.evalset(*RESET)
    assert (ended.returncode, ended.stderr) == (0, "")
    (line, last) = ended.stdout.splitlines()
    assert line.startswith(f"kept as {attempts_file(here)}.")
    assert last == "failed attempts are removed from the record"
    assert states(here) == {"done": ["a.dev.v0", "b.dev.v0"], "to do": ["c.dev.v0"]}
    assert attempts_file(here).read_text() == "".join(good[:2])
    assert kept(here) == {attempts_file(here).name: "".join([*mistyped, good[2]]).encode()}
    assert (here.folder / "progress/oaievalset/dummy.mine.run.json").read_bytes() == before


def test_a_mistyped_run_that_was_the_last_one_takes_its_plan_along(here: Here) -> None:
    """No row is left of it; the pins of what is finished stay, and the next run compares them."""
    put(
        here,
        record(A, attempt="1"),
        failed(MISTYPED[0], "m0"),
        failed(MISTYPED[1], "m1", result="lost", fault="environment"),
        planned=MISTYPED,
    )
    run_file = here.folder / "progress/oaievalset/dummy.mine.run.json"
    before = run_file.read_bytes()
    ended = here.evalset(*RESET)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert states(here) == {"done": ["a.dev.v0", "b.dev.v0"]}
    assert kept(here)[run_file.name] == before
    assert len({DATED.search(line)[0] for line in ended.stdout.splitlines()[:-1]}) == 1  # type: ignore[index] # each has one
    now = json.loads(run_file.read_bytes())
    assert (now["commands"], now["registry"], now["generation"]) == ([], {"0123": "d"}, 5)
    # Nobody knows what the eval set has, so nobody can say that all of it is finished.
    assert here.evalset("status", "dummy", "mine", "--check").returncode == 1


def test_the_newest_plan_stays_if_it_has_not_failed(here: Here) -> None:
    """A run that was killed before any of its evals ended is not the mistaken one."""
    other = [[*command, "--seed", "1"] for command in (A, B, C)]
    put(here, failed(MISTYPED[0], "m0"), planned=other)
    assert here.evalset(*RESET).returncode == 0
    assert len(states(here)["to do"]) == 3


def test_a_run_of_which_nothing_is_finished_leaves_no_progress(here: Here) -> None:
    """As where nothing has run."""
    here.progress.unlink()
    put(here, *(failed(command, "1") for command in MISTYPED), planned=MISTYPED)
    assert here.evalset(*RESET).returncode == 0
    line = here.refused("status", "dummy", "mine")
    assert "has no progress of dummy mine" in line


def test_failures_before_a_success_stay(here: Here) -> None:
    """The eval has finished, and they tell of how; so does a success whose line was taken out."""
    lines = [failed(A, "1"), record(A, attempt="2"), record(C, attempt="3")]
    put(here, *lines, planned=[A, B, C])
    ended = here.evalset(*RESET)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "nothing to remove: no failed eval is on record\n"
    assert attempts_file(here).read_text() == "".join(lines)
    assert kept(here) == {}


def test_what_cannot_be_read_stays(here: Here) -> None:
    """Byte for byte, the torn last line included; a newer evalset's line moves as it is."""
    newer = json.dumps(json.loads(failed(C, "2")) | {"version": 9, "more": [1, 2]}) + "\n"
    put(here, "{dam\n", failed(C, "1"), newer, record(A), '{"version": 1, "att')
    assert here.evalset(*RESET).returncode == 0
    assert attempts_file(here).read_text() == "{dam\n" + record(A) + '{"version": 1, "att'
    assert kept(here) == {attempts_file(here).name: (failed(C, "1") + newer).encode()}


def test_a_last_line_without_its_end_can_go(here: Here) -> None:
    """What comes before it stays whole."""
    put(here, record(A), failed(C, "1").rstrip())
    assert here.evalset(*RESET).returncode == 0
    assert attempts_file(here).read_text() == record(A)


def test_a_newer_evalsets_plan_stays(here: Here) -> None:
    """It may say more than this version understands."""
    put(here, failed(MISTYPED[0], "1"), planned=MISTYPED)
    run_file = here.folder / "progress/oaievalset/dummy.mine.run.json"
    newer = json.dumps(json.loads(run_file.read_bytes()) | {"version": 9})
    run_file.write_text(newer)
    assert here.evalset(*RESET).returncode == 0
    assert run_file.read_text() == newer
    assert attempts_file(here).read_text() == ""


def test_a_live_run_is_left_alone(here: Here) -> None:
    """It may be about to write."""
    put(here, failed(C, "1"), planned=[A, B, C])
    layout = Layout(root=here.folder / "progress", model="dummy", eval_set="mine")
    with run_lock(layout.lock):
        line = here.refused(*RESET, code=3)
    assert "another run of this model" in line
    assert here.evalset(*RESET).returncode == 0


def test_what_never_ran_has_no_failures(here: Here) -> None:
    """Not even a folder is made."""
    line = here.refused("reset", "dummy", "other", "--failed", "--progress-dir", "none")
    assert "has no progress of dummy other" in line


def test_a_progress_branch_keeps_what_it_has(here: Here) -> None:
    """As the command says; its next snapshot counts what is finished, where there is no plan."""
    put(here, record(A, attempt="1"), failed(MISTYPED[0], "m0"), planned=MISTYPED)
    names = ("dummy", "mine")
    assert here.evalset("snapshot", "take", *names).returncode == 0
    assert here.evalset(*RESET).returncode == 0
    assert here.evalset("snapshot", "take", *names).returncode == 0
    newest = here.evalset("snapshot", "log", *names).stdout.splitlines()[0]
    assert newest.endswith("dummy mine 2/2")
    rows = answer(here, "status", *names, "--branch", "evalset/dummy.mine")["evals"]
    assert [row["state"] for row in rows] == ["done", "done", "failed"]
    # A pull brings the failure back, but not the plan.
    assert here.evalset("snapshot", "pull", *names).returncode == 0
    assert sorted(states(here)) == ["done", "failed"]

"""The commands that read and set aside what runs have left; none of these needs an engine."""

import json
import re
from typing import Any

import pytest

from tests.commands.conftest import LINES, PROGRESS, Here, contents

A = ["oaieval", "dummy", "a.dev.v0", "--registry_path", "/registry/0"]
B = ["oaieval", "dummy", "b.dev.v0", "--registry_path", "/registry/0"]
C = ["oaieval", "dummy", "c.dev.v0", "--registry_path", "/registry/0"]

FULL = "Error: the output cannot be written: No space left on device\n"


def record(command: list[str], **changes: object) -> str:
    """A line of an attempts file."""
    fields: dict[str, object] = {
        "version": 1,
        "attempt": "1",
        "run": "r",
        "host": "h",
        "command": command,
        "eval": command[2],
        "result": "success",
        "exit_code": 0,
        "ended_at": "2025-01-01T00:00:04Z",
        "duration": 4.2,
    }
    return json.dumps(fields | changes) + "\n"


@pytest.fixture
def recorded(here: Here) -> Here:
    """One eval finished, one finished without a record of it, one failed."""
    attempts = [
        record(A, final_report={"accuracy": 0.5}, samples=4, console_log="evallogs/1.console.log"),
        record(
            C,
            attempt="2",
            result="failure",
            fault="eval",
            exit_code=1,
            reason="exited with status 1",
            console_log="evallogs/2.console.log",
        ),
    ]
    here.put("progress/oaievalset/dummy.mine.attempts.jsonl", "".join(attempts))
    here.put("progress/evallogs/1.console.log", b"all is well \xff\x1b[31m\n")
    here.put("progress/evallogs/2.console.log", "ValueError\n")
    return here


def answer(here: Here, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    """The one JSON object that a command prints."""
    ended = here.evalset(*arguments, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("\n") == 1
    return json.loads(ended.stdout)


def test_status_shows_every_eval_that_is_known(recorded: Here) -> None:
    """With score and reason, and a line with the counts below."""
    before = contents(recorded.folder)
    ended = recorded.evalset("status", "dummy", "mine")
    assert (ended.returncode, ended.stderr) == (0, "")
    text = ended.stdout
    assert re.search(r"a\.dev\.v0 +done +accuracy 0\.5 +4 +4\.2 s +1 *\n", text)
    assert re.search(r"b\.dev\.v0 +done *\n", text)
    assert re.search(r"c\.dev\.v0 +failed +0 +4\.2 s +1 *\n", text)
    assert "exited with status 1" in text
    assert text.endswith("2 of 3 evals finished, 1 failed\n")
    assert contents(recorded.folder) == before


def test_status_writes_junit_xml_too(recorded: Here) -> None:
    """One test case for each eval, with the end of what a failed one printed."""
    ended = recorded.evalset("status", "dummy", "mine", "--junit", "results/junit.xml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == recorded.evalset("status", "dummy", "mine").stdout
    text = (recorded.folder / "results/junit.xml").read_text()
    assert 'tests="3" failures="1" errors="0" skipped="0"' in text
    assert "ValueError\nwhole output: evallogs/2.console.log</failure>" in text


def test_junit_xml_has_no_key_that_is_set(recorded: Here) -> None:
    """A failed eval has printed it; its log stays as it is."""
    key = "sk-test-0123456789abcdef"
    log = recorded.put("progress/evallogs/2.console.log", f"no such key: {key}\n")
    arguments = ("status", "dummy", "mine", "--junit", "junit.xml")
    assert recorded.evalset(*arguments, OPENAI_API_KEY=key).returncode == 0
    text = (recorded.folder / "junit.xml").read_text()
    assert "no such key: ***" in text
    assert key not in text
    assert key in log.read_text()


def test_a_configured_file_for_junit_xml_is_that_of_runs(recorded: Here) -> None:
    """To look at the state overwrites no results."""
    recorded.put("evalset.toml", 'junit = "junit.xml"\n')
    before = contents(recorded.folder)
    assert recorded.evalset("status", "dummy", "mine").returncode == 0
    assert contents(recorded.folder) == before


def test_status_adds_to_the_summary_of_a_job(recorded: Here) -> None:
    """Behind what other steps have written, in GitHub's Markdown."""
    page = recorded.put("summary.md", "# Before\n")
    for _ in range(2):
        ended = recorded.evalset(
            "status", "dummy", "mine", "--summary", GITHUB_STEP_SUMMARY=str(page)
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    once = page.read_text().removeprefix("# Before\n")
    assert once.startswith("### `dummy` `mine`\n\n2 of 3 evals finished, 1 failed\n\n| eval |")
    assert once[: len(once) // 2] * 2 == once


def test_status_as_json_is_one_object(recorded: Here) -> None:
    """With the same facts as the table."""
    found = answer(recorded, "status", "dummy", "mine")
    assert (found["model"], found["eval_set"], found["total"]) == ("dummy", "mine", 3)
    assert found["counts"] == {"done": 2, "failed": 1}
    states = {row["eval"]: (row["state"], row["reason"]) for row in found["evals"]}
    assert states == {
        "a.dev.v0": ("done", ""),
        "b.dev.v0": ("done", ""),
        "c.dev.v0": ("failed", "exited with status 1"),
    }


def test_status_names_damaged_lines_on_stderr(recorded: Here) -> None:
    """Those of both files; what can be read is shown."""
    recorded.progress.write_text(f"{LINES[0]}[dam\n{LINES[1]}")
    path = recorded.folder / "progress/oaievalset/dummy.mine.attempts.jsonl"
    path.write_text("{}\n" + path.read_text())
    ended = recorded.evalset("status", "dummy", "mine", "--json")
    first, second = ended.stderr.splitlines()
    assert first.startswith(f"warning: {recorded.progress}: line 2 cannot be read")
    assert second.startswith(f"warning: {path}: line 1 cannot be read")
    assert json.loads(ended.stdout)["counts"] == {"done": 2, "failed": 1}


def test_status_works_where_one_may_only_read(recorded: Here) -> None:
    """Another user's progress directory, for one."""
    recorded.put("progress/oaievalset/dummy.mine.lock", "").chmod(0o444)
    ended = recorded.evalset("status", "dummy", "mine", bound=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_list_progress_shows_models_and_sets(recorded: Here) -> None:
    """With the number of finished evals; a pattern narrows the list."""
    recorded.put("progress/oaievalset/org/m.other.progress.txt", "oaieval org/m x\n")
    assert recorded.evalset("list", "progress").stdout == (
        "dummy mine  (2 evals finished)\norg/m other  (1 eval finished)\n"
    )
    assert answer(recorded, "list", "progress", "org*") == [
        {"model": "org/m", "eval_set": "other", "finished": 1}
    ]
    assert recorded.evalset("list", "progress", "none").stdout == "nothing found\n"


@pytest.mark.parametrize("name", ["a.dev.v0", "a"])
def test_logs_prints_what_an_eval_printed(recorded: Here, name: str) -> None:
    """To the byte where it is no terminal; the name may be cut short at a dot."""
    ended = recorded.evalset("logs", "dummy", "mine", name)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "all is well \udcff\x1b[31m\n"


def test_logs_shows_nothing_but_logs(recorded: Here) -> None:
    """Though a record, which may come from another host, names something else."""
    recorded.put("secret", "secret")
    path = recorded.folder / "progress/oaievalset/dummy.mine.attempts.jsonl"
    path.write_text(record(A, console_log="../secret"))
    assert "is not there any more" in recorded.refused("logs", "dummy", "mine", "a.dev.v0")


def test_logs_of_an_unknown_eval_is_told_the_closest(recorded: Here) -> None:
    """Among those that were attempted."""
    assert "did you mean `a.dev.v0`" in recorded.refused("logs", "dummy", "mine", "a.dve.v0")


def test_logs_that_are_gone_are_named(recorded: Here) -> None:
    """Somebody has tidied up."""
    path = recorded.folder / "progress/evallogs/2.console.log"
    path.unlink()
    line = recorded.refused("logs", "dummy", "mine", "c")
    assert line == f"the console log {path} is not there any more; move it back to read it"


def test_logs_of_attempts_that_left_none_say_so(recorded: Here) -> None:
    """As of one whose container never started."""
    path = recorded.folder / "progress/oaievalset/dummy.mine.attempts.jsonl"
    path.write_text(record(A, console_log=None))
    assert recorded.refused("logs", "dummy", "mine", "a.dev.v0") == (
        "no attempt of `a.dev.v0` has left a console log; `evalset status` says how they ended"
    )


def test_reset_keeps_the_old_files_under_dated_names(recorded: Here) -> None:
    """Nothing is deleted, the logs stay, and the next run starts over."""
    folder = recorded.progress.parent
    attempts = (folder / "dummy.mine.attempts.jsonl").read_bytes()
    ended = recorded.evalset("reset", "dummy", "mine")
    assert ended.returncode == 0
    assert ended.stderr == (
        "warning: no Docker engine answers; the next run continues what a killed run left there, "
        "unless `evalset clean` removes it first\n"
    )
    *kept, last = ended.stdout.splitlines()
    assert last == "the next run of dummy mine starts over"
    names = sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))
    assert [re.sub(r"\.\d{8}T\d{6}\.\d{6}Z$", ".DATE", name) for name in names] == [
        "dummy.mine.attempts.jsonl.DATE",
        "dummy.mine.progress.txt.DATE",
    ]
    assert sorted(kept) == [f"kept as {folder / name}" for name in names]
    assert (folder / names[0]).read_bytes() == attempts
    assert (folder / names[1]).read_text() == PROGRESS
    assert (recorded.folder / "progress/evallogs/1.console.log").exists()
    assert recorded.evalset("status", "dummy", "mine").returncode == 2


def test_a_second_reset_keeps_what_the_first_one_kept(recorded: Here) -> None:
    """Dates differ to the microsecond."""
    recorded.evalset("reset", "dummy", "mine")
    recorded.put("progress/oaievalset/dummy.mine.progress.txt", LINES[0])
    recorded.evalset("reset", "dummy", "mine")
    kept = list(recorded.progress.parent.glob("dummy.mine.progress.txt.*"))
    assert sorted(path.read_text() for path in kept) == sorted([PROGRESS, LINES[0]])


def test_reset_of_what_never_ran_creates_nothing(here: Here) -> None:
    """Not even a folder."""
    line = here.refused("reset", "dummy", "other", "--progress-dir", "none")
    assert "has no progress of dummy other" in line


NO_READER = "import os, sys; os.close(1); r, w = os.pipe(); os.close(r); os.dup2(w, 1); "


@pytest.mark.parametrize(
    "command", [["list", "progress"], ["status", "dummy", "mine"], ["logs", "--help"]]
)
def test_a_reader_that_goes_away_is_no_error(recorded: Here, command: list[str]) -> None:
    """`evalset list progress | head -0` ends without a word."""
    code = NO_READER + "from runner.cli import main; main(sys.argv[1:])"
    ended = recorded.python("-c", code, *command)
    assert ended.stderr == ""
    assert ended.returncode == 141


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [["list", "progress"], ["status", "dummy", "mine"], ["--help"], ["status", "--help"]],
)
def test_a_full_disk_behind_the_output_is_no_error(
    recorded: Here, command: list[str], unbuffered: str
) -> None:
    """`evalset list progress > /dev/full` ends as where the reader has gone, and says why."""
    code = "from runner.cli import main; main(sys.argv[1:])"
    full = "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); "
    ended = recorded.python("-c", full + code, *command, PYTHONUNBUFFERED=unbuffered)
    assert (ended.returncode, ended.stderr) == (141, FULL)


def test_an_error_is_told_though_the_reader_has_gone(here: Here) -> None:
    """It goes to stderr, which is still read; the exit code is that of the closed pipe."""
    code = NO_READER + (
        "from runner.cli import run_program\n"
        "from runner.errors import NotPushed\n"
        "def body():\n"
        "    print('what nobody reads')\n"
        "    raise NotPushed('it is here alone')\n"
        "run_program(body)\n"
    )
    ended = here.python("-c", code, PYTHONUNBUFFERED="")
    assert ended.stderr == "Error: it is here alone\n"
    assert ended.returncode == 141


def test_the_reading_commands_read_the_configuration_file(recorded: Here) -> None:
    """They look where a run with the same file has put its files, and pass over other keys."""
    (recorded.folder / "progress").rename(recorded.folder / "kept")
    recorded.put("evalset.toml", "progress-dir = 'kept'\njobs = 2\n")
    ended = recorded.evalset("status", "dummy", "mine")
    assert ended.returncode == 0
    assert "a.dev.v0" in ended.stdout


@pytest.mark.parametrize(("value", "shown"), [("0", False), ("", False), ("1", True)])
def test_tracebacks_are_shown_when_asked_for(here: Here, value: str, *, shown: bool) -> None:
    """EVALSET_DEBUG is a switch: 0 is off."""
    ended = here.evalset("status", "dummy", "none", EVALSET_DEBUG=value)
    assert ("Traceback" in ended.stderr) is shown


@pytest.mark.parametrize(
    ("planned", "status"), [(None, 1), ([A, B], 0), ([A, B, C], 1), ([B, [*A, "--seed", "1"]], 1)]
)
def test_status_can_be_asked_whether_all_is_finished(
    recorded: Here, planned: list[list[str]] | None, status: int
) -> None:
    """Of the last plan: what failed with other arguments before counts only where there is none."""
    if planned is not None:
        run = {"run": "r", "model": "dummy", "eval_set": "mine", "image": "i", "image_id": "i"}
        content = run | {"runner": "0", "commands": planned, "limits": {}}
        recorded.put("progress/oaievalset/dummy.mine.run.json", json.dumps(content))
    ask = ("status", "dummy", "mine")
    assert recorded.evalset(*ask, "--check").returncode == status
    assert recorded.evalset(*ask, "--check", "--json").returncode == status
    assert recorded.evalset(*ask).returncode == 0
    assert recorded.evalset("snapshot", "take", "dummy", "mine").returncode == 0
    of_branch = (*ask, "--branch", "evalset/dummy.mine")
    assert recorded.evalset(*of_branch, "--check").returncode == status
    assert recorded.evalset(*of_branch).returncode == 0

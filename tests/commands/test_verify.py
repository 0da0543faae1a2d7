import io
import json
from pathlib import Path

import pytest

from runner.commands.verify import exit_code, show
from runner.model import Command
from runner.run.verify import Verification
from runner.run.verify_verdict import Verdict, Verified
from tests.commands.conftest import Here
from tests.commands.repositories import BRANCH, TAKE, begin
from tests.commands.test_records import A, record

NOT_HERE = "evallogs/none.jsonl"
LOG = "evallogs/1_dummy_a.dev.v0.jsonl"
PINS = {
    "version": 1,
    "run": "r",
    "model": "dummy",
    "eval_set": "mine",
    "image": "i",
    "image_id": "sha256:i",
    "commands": [A],
    "limits": {},
    "registry": {},
}


@pytest.fixture
def recorded(here: Here) -> Here:
    """One eval with all that it takes to be run again, but an engine."""
    here.put("progress/oaievalset/dummy.mine.attempts.jsonl", record(A, logs=[LOG]))
    here.put("progress/oaievalset/dummy.mine.run.json", json.dumps(PINS))
    here.put(f"progress/{LOG}", '{"spec": {}}\n')
    return here


def verdicts(here: Here, *options: str) -> dict[str, str]:
    """What it says of each eval, where it can tell of none."""
    ended = here.evalset("verify", "dummy", "mine", "--json", *options)
    assert (ended.returncode, ended.stderr) == (3, "")
    found = json.loads(ended.stdout)
    assert found["counts"] == {"cannot tell": len(found["evals"])}
    return {one["eval"]: one["reason"] for one in found["evals"]}


def test_without_an_engine_nothing_can_be_run_again(recorded: Here) -> None:
    """One line says so, and all else is as it was."""
    line = recorded.refused(
        "verify", "dummy", "mine", "--select", "a.*", "--registry-path", "own", code=3
    )
    assert line.startswith("no Docker engine answers")


def test_registry_folders_have_to_be_named(recorded: Here) -> None:
    """No record says where they are on this host, and no engine is needed to say so."""
    assert verdicts(recorded, "--select", "a.*") == {
        "a.dev.v0": "its run had registry folders (1), and 0 are named here; name those of the run "
        "with --registry-path, in the same order"
    }


def test_what_cannot_be_run_again_says_why_without_an_engine(recorded: Here) -> None:
    """A line for each eval, and the exit code 3."""
    recorded.put(
        "progress/oaievalset/dummy.mine.attempts.jsonl",
        record(A, spending={"requests": 3}, logs=[LOG]),
    )
    ended = recorded.evalset("verify", "dummy", "mine")
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout.splitlines() == [
        "cannot tell  a.dev.v0: it has no answers on record",
        "cannot tell  b.dev.v0: no attempt of it is on record",
        "cannot tell: 2",
    ]


@pytest.mark.parametrize(
    ("attempt", "why"),
    [
        ({"spending": {"requests": 1}}, "it has no answers on record"),
        ({"logs": []}, "its log is not here"),
        ({"logs": [NOT_HERE]}, "its log is not here"),
        ({"logs": [LOG, NOT_HERE]}, "its log is not here"),
        ({"logs": ["../../own/evals/mine.yaml"]}, "its log is not here"),
    ],
)
def test_an_eval_without_its_files_cannot_be_run_again(
    recorded: Here, attempt: dict[str, object], why: str
) -> None:
    """Each thing that is missing has its words."""
    recorded.put(
        "progress/oaievalset/dummy.mine.attempts.jsonl", record(A, **({"logs": [LOG]} | attempt))
    )
    assert verdicts(recorded, "--select", "a.*") == {"a.dev.v0": why}


def test_without_a_run_file_nobody_knows_the_image(recorded: Here) -> None:
    """Nor what the registry had in it."""
    (recorded.folder / "progress/oaievalset/dummy.mine.run.json").unlink()
    assert verdicts(recorded, "--select", "a.*") == {
        "a.dev.v0": "no run.json says what it was run with"
    }


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["oaieval", "other", "x"], "its command has another model, other"),
        (["oaieval", "dummy", "../../x"], "the eval's name `../../x` has `..` in it"),
        (["oaieval", "dummy", "/x"], "the eval's name `/x` is an absolute path"),
    ],
)
def test_a_record_that_somebody_made_up_leads_nowhere(
    recorded: Here, command: list[str], why: str
) -> None:
    """It may be from a branch."""
    recorded.put("progress/oaievalset/dummy.mine.progress.txt", json.dumps(command) + "\n")
    recorded.put("progress/oaievalset/dummy.mine.attempts.jsonl", record(command, logs=[LOG]))
    (found,) = verdicts(recorded).values()
    assert found.startswith(why)


@pytest.mark.parametrize(
    ("progress", "attempts", "fact", "cure"),
    [
        ("", "", "has no progress of dummy mine", "evalset list progress"),
        (
            "",
            record(A, result="failure", fault="eval", exit_code=1),
            "no eval of dummy mine is finished",
            "run `evalset run` first",
        ),
    ],
)
def test_where_nothing_is_finished_there_is_nothing_to_verify(
    here: Here, progress: str, attempts: str, fact: str, cure: str
) -> None:
    """One line, with what to do."""
    here.progress.write_text(progress)
    here.put("progress/oaievalset/dummy.mine.attempts.jsonl", attempts)
    line = here.refused("verify", "dummy", "mine")
    assert fact in line
    assert cure in line


def test_a_selection_that_matches_nothing_is_refused(recorded: Here) -> None:
    """As for a run."""
    line = recorded.refused("verify", "dummy", "mine", "--select", "z*")
    assert "--select `z*` matches no eval of the set" in line


def test_a_difference_counts_for_more_than_what_nobody_can_tell() -> None:
    """It is evidence, whatever the others are."""
    command = Command(("oaieval", "m", "a"))
    each = {
        verdict: Verified(eval="a", command=command, verdict=verdict, reason="")
        for verdict in Verdict
    }
    same, differs, unknown = Verdict.SAME, Verdict.DIFFERS, Verdict.CANNOT_TELL
    codes = {
        (): 0,
        (same, same): 0,
        (same, unknown): 3,
        (unknown, differs): 1,
        (differs, unknown, same): 1,
    }
    for verdicts_, code in codes.items():
        assert exit_code([each[verdict] for verdict in verdicts_]) == code, verdicts_


def test_a_branch_without_answers_says_how_it_gets_some(recorded: Here) -> None:
    """They are not there unless they are asked for; and one of other evals has nothing."""
    begin(recorded.folder)
    recorded.put(
        "progress/oaievalset/dummy.mine.attempts.jsonl",
        record(A, spending={"requests": 3}, logs=[LOG]),
    )
    assert recorded.evalset(*TAKE).returncode == 0
    assert verdicts(recorded, "--select", "a.*", "--branch", BRANCH) == {
        "a.dev.v0": "it has no answers on the branch; runs and `evalset snapshot take` put them "
        "there with --snapshot-answers"
    }
    line = recorded.refused("verify", "dummy", "none", "--branch", BRANCH)
    assert line == (
        f"the branch {BRANCH} has no dummy none; `evalset status --branch {BRANCH}` shows what it "
        "has"
    )


def test_a_branch_that_a_remote_lacks_is_looked_for_there(here: Here, hub: Path) -> None:
    """The line names no folder of ours."""
    line = here.refused("verify", "dummy", "mine", "--branch", "none", "--remote", str(hub))
    assert f"there is no branch none here or at {hub}; `git ls-remote {hub}` lists" in line


def test_a_remote_that_does_not_exist_is_a_fault_of_the_environment(here: Here) -> None:
    """As for a run."""
    where = ("--branch", "none", "--remote", "/nonexistent/x.git")
    ended = here.evalset("verify", "dummy", "mine", *where)
    assert ended.returncode == 3
    assert "the remote /nonexistent/x.git cannot be used" in ended.stderr


def test_an_eval_that_is_there_twice_is_told_apart_by_its_arguments() -> None:
    """As in the table of `evalset status`; others are shown without."""
    commands = (
        ("oaieval", "m", "a"),
        ("oaieval", "m", "a", "--max_samples", "3"),
        ("oaieval", "m", "b", "--max_samples", "3"),
    )
    verified = tuple(
        Verified(eval=each[2], command=Command(each), verdict=Verdict.SAME, samples=3, answers=3)
        for each in commands
    )
    out = io.StringIO()
    show(Verification(verified=verified, unfinished=0, interrupted=0), out=out)
    assert out.getvalue().splitlines()[:3] == [
        "same         a (without arguments)  (3 samples, 3 answers)",
        "same         a (--max_samples 3)  (3 samples, 3 answers)",
        "same         b  (3 samples, 3 answers)",
    ]

import json

import pytest

from tests.commands.conftest import Here, contents

pytestmark = pytest.mark.docker

RUN = ("run", "dummy", "mine", "--registry-path", "own", "--dry-run")
REGISTRY = ["--registry_path", "/registry/0"]


@pytest.fixture
def here(here_with_engine: Here) -> Here:
    """Two of the three evals are finished, recorded with the paths that the containers see."""
    lines = "".join(
        json.dumps(["oaieval", "dummy", name, *REGISTRY]) + "\n"
        for name in ("a.dev.v0", "c.dev.v0")
    )
    here_with_engine.progress.write_text(lines)
    return here_with_engine


def test_json_is_one_object_and_nothing_else(here: Here) -> None:
    """Commands as argv arrays, in order; nothing is started and nothing written."""
    before = contents(here.folder)
    ended = here.evalset(*RUN, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == {
        "done": [["oaieval", "dummy", name, *REGISTRY] for name in ("a.dev.v0", "c.dev.v0")],
        "todo": [["oaieval", "dummy", "b.dev.v0", *REGISTRY]],
        "cannot": [],
        "why": [
            {"command": ["oaieval", "dummy", name, *REGISTRY], "why": why}
            for name, why in (
                ("a.dev.v0", "finished; no attempt of it is on record"),
                ("b.dev.v0", "not run yet"),
                ("c.dev.v0", "finished; no attempt of it is on record"),
            )
        ],
    }
    assert ended.stdout.count("\n") == 1
    assert contents(here.folder) == before


def attempts(here: Here, *results: tuple[str, str, str]) -> None:
    """Put attempts on record: eval, result and reason."""
    records = [
        {
            "attempt": f"x{number}",
            "run": "r",
            "host": "laptop",
            "command": ["oaieval", "dummy", name, *REGISTRY],
            "eval": name,
            "result": result,
            "reason": reason,
            "ended_at": "2025-01-01T00:00:00Z",
        }
        for number, (name, result, reason) in enumerate(results, start=1)
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    here.put("progress/oaievalset/dummy.mine.attempts.jsonl", lines)


def test_text_says_why_an_eval_is_to_do_and_how_one_was_done(here: Here) -> None:
    """With what is known of the attempts that failed, and of the one that did not."""
    attempts(
        here,
        ("b.dev.v0", "failure", "exited with status 1"),
        ("c.dev.v0", "lost", "the engine went away"),
        ("c.dev.v0", "success", ""),
    )
    assert here.evalset(*RUN).stdout.splitlines() == [
        "finished (2):",
        (
            "  oaieval dummy a.dev.v0 --registry_path /registry/0"
            "  (finished; no attempt of it is on record)"
        ),
        (
            "  oaieval dummy c.dev.v0 --registry_path /registry/0"
            "  (finished 2025-01-01T00:00:00Z on laptop, attempt 2: x3)"
        ),
        "to do (1):",
        (
            "  oaieval dummy b.dev.v0 --registry_path /registry/0"
            "  (failed once, last: exited with status 1)"
        ),
    ]


def test_what_was_finished_otherwise_says_so(here: Here) -> None:
    """With other arguments, or before its line was taken out of the progress file."""
    attempts(here, ("b.dev.v0", "success", ""))
    ended = here.evalset(*RUN, "--json")
    why = {each["command"][2]: each["why"] for each in json.loads(ended.stdout)["why"]}
    assert why["b.dev.v0"] == (
        "finished 2025-01-01T00:00:00Z on laptop, attempt 1: x1, "
        "but its line was taken out of the progress file"
    )
    other = json.loads(here.evalset(*RUN, "--json", "--max_samples", "5").stdout)
    assert [each["why"] for each in other["why"]] == [
        "not run yet; finished without arguments",
        "not run yet",
        "not run yet; finished without arguments",
    ]


def test_a_reason_is_no_command_on_actions(here: Here) -> None:
    """Records may come from elsewhere, and GitHub obeys what is printed."""
    attempts(here, ("b.dev.v0", "failure", "\n::add-mask::a ##[add-mask]b"))
    lines = here.evalset(*RUN, GITHUB_ACTIONS="true").stdout.splitlines()
    assert any(line.endswith("(failed once, last:  ::add-mask::a ##(add-mask]b)") for line in lines)


def test_no_resume_has_everything_to_do(here: Here) -> None:
    """And the old file stays where it is, because nothing is run."""
    before = contents(here.folder)
    plan = json.loads(here.evalset(*RUN, "--json", "--no-resume").stdout)
    assert plan["done"] == []
    assert [command[2] for command in plan["todo"]] == ["a.dev.v0", "b.dev.v0", "c.dev.v0"]
    assert contents(here.folder) == before


def test_what_stands_after_two_hyphens_is_oaievals(here: Here) -> None:
    """`evalset run m s -- --dry-run` passes on oaieval's own option of that name."""
    line = ("run", "dummy", "mine", "--dry-run", "--json", "--", "--dry-run")
    plan = json.loads(here.evalset(*line, EVALSET_REGISTRY_PATH="own").stdout)
    assert plan["todo"][0] == ["oaieval", "dummy", "a.dev.v0", "--dry-run", *REGISTRY]


def test_shards_are_disjoint_and_complete(here: Here) -> None:
    """Finished or not, each eval is in one of them."""
    found = []
    for shard in ("1/2", "2/2"):
        plan = json.loads(here.evalset(*RUN, "--json", "--shard", shard).stdout)
        found += [command[2] for command in plan["done"] + plan["todo"]]
    assert sorted(found) == ["a.dev.v0", "b.dev.v0", "c.dev.v0"]

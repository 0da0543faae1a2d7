"""Where the value of a variable that was passed in can be found: at the eval, and nowhere else."""

import os
import re
from pathlib import Path

import pytest

from runner.secrets import encodings
from tests.branch.desk import git, make_bare
from tests.command_lines import watched
from tests.conftest import Place, engine_api, until
from tests.hostile.conftest import Hostile

pytestmark = pytest.mark.docker

SECRET = "sk-test-9f8e7d6c5b4a39281706abcdef"  # noqa: S105 - not really
PASSWORD = "830461957204"  # noqa: S105 - not really
# With the gateway, no eval is handed a key.
VARIABLES = {"OPENAI_API_KEY": SECRET, "EVALS_PASSWORD": PASSWORD, "EVALSET_GATEWAY": "false"}


def holding(folder: Path) -> set[str]:
    """Files below a folder in whose name or content one of the values stands, in any form."""
    values = [form for value in (SECRET, PASSWORD) for form in encodings(value)]
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and any(value in os.fsencode(path.name) + path.read_bytes() for value in values)
    }


def held(text: str) -> list[bytes]:
    """The forms of the values that a text has."""
    found = [form for value in (SECRET, PASSWORD) for form in encodings(value)]
    return [form for form in found if form in text.encode()]


@pytest.mark.parametrize("status", ["0", "3"])
def test_no_record_has_it_though_an_eval_puts_it_there(hostile: Hostile, status: str) -> None:
    """In a report's names, texts and numbers, in a log's name, in a warning; only its logs do."""
    summary = hostile.folder / "summary.md"
    hostile.registry("confess")
    ended = hostile.run(
        *("--junit", "junit.xml"),
        **VARIABLES,
        EVALS_STATUS=status,
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert ended.returncode == (1 if status == "3" else 0)
    assert held(ended.stdout + ended.stderr) == []
    (record,) = hostile.records()
    assert record.final_report
    assert record.final_report["accuracy"] == 0.5
    assert record.final_report["number"] == "***"
    assert record.final_report["***"]["text"] == "it is ***!"
    assert record.final_report["score-***"] == 1
    assert any("link-***" in warning for warning in record.warnings)
    assert "evallogs/***_m_confess.jsonl" in record.logs
    assert all((hostile.progress / log).is_file() for log in record.logs)
    own = {record.console_log, *record.logs}
    with_it = {f"progress/{log}" for log in own if log != "evallogs/***_m_confess.jsonl"}
    assert holding(hostile.folder) == with_it


def test_it_is_not_in_git_and_not_in_labels(hostile: Hostile) -> None:
    """With snapshots, neither in an object nor in a name nor in a message."""
    remote = make_bare(hostile.folder / "hub.git")
    hostile.registry("confess", "serve")
    with hostile.running("--snapshot", "--remote", str(remote), **VARIABLES) as run:
        (about,) = until(
            lambda: [
                engine_api().inspect_container(one)
                for one in hostile.containers(every=False)
                if b"waiting" in engine_api().logs(one)
            ]
        )
        assert about["Config"]["Env"].count(f"OPENAI_API_KEY={SECRET}") == 1
        labels = about["Config"]["Labels"]
        assert held(" ".join([*labels, *labels.values(), about["Name"], *about["Args"]])) == []
        printed, _ = run.communicate(timeout=60)
    assert held(printed) == []
    objects = git(
        remote, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"
    )
    contents = [git(remote, "cat-file", "-p", line.split()[0]) for line in objects.splitlines()]
    assert any('"number":"***"' in content for content in contents)
    assert [content for content in contents if held(content)] == []


def test_it_is_on_no_command_line(hostile: Hostile) -> None:
    """Of the runner, of Git, of the engine's helpers or of anything else on this machine."""
    remote = make_bare(hostile.folder / "hub.git")
    (hostile.folder / "secrets.env").write_text(f"EVALS_PASSWORD={PASSWORD}\n")
    hostile.registry("confess", "victim")
    seen: set[str] = set()
    with watched(seen):
        options = ("--snapshot", "--remote", str(remote), "--env-file", "secrets.env")
        variables = {"OPENAI_API_KEY": SECRET, "MY_SECRET": SECRET, "EVALSET_GATEWAY": "false"}
        with hostile.running(*options, "-e", "MY_SECRET", **variables) as run:
            printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert any(re.match(r"git .*(cat-file|push|hash-object)", line) for line in seen)
    assert any("-m runner run" in line for line in seen)
    assert any(line.startswith("/usr/bin/containerd-shim") for line in seen)
    assert [line for line in seen if held(line)] == []


def test_an_error_does_not_repeat_it(hostile: Hostile) -> None:
    """Whether the engine refuses a container or the program cannot run."""
    hostile.registry("victim")
    for options, code in (
        (("--network", "container:nobody", "--retries", "0"), 3),
        (("--image", "evalset/test:none-such"), 3),
        (("--gpus", "all", "--retries", "0"), 3),
    ):
        ended = hostile.run(*options, **VARIABLES)
        assert ended.returncode == code, ended.stderr
        assert held(ended.stdout + ended.stderr) == []
    assert holding(hostile.progress) == set()


def test_who_takes_an_eval_over_masks_what_that_was_variables_for_containers(
    hostile: Place,
) -> None:
    """The engine is asked, because the next run need not have the variables any more."""
    hostile.registry("hold")
    with hostile.running(**VARIABLES) as run:
        until(lambda: hostile.containers(every=False))
        until(lambda: list(hostile.progress.glob(".attempts/*/waits")))
        run.kill()
        run.communicate()
    hostile.let_go()
    assert hostile.run().returncode == 0
    (record,) = hostile.records()
    assert record.final_report == {"text": "it is ***"}

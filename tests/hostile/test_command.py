"""An eval that says what the init process says where there is no such program."""

import pytest

from runner.model import Fault, Result
from tests.hostile.conftest import Hostile

pytestmark = pytest.mark.docker


def test_an_eval_cannot_say_that_its_image_has_no_command(hostile: Hostile) -> None:
    """The image is asked: the eval has failed, and the run continues with the others."""
    hostile.attack("tini", "victim")
    (failed,) = [record for record in hostile.records() if record.eval == "tini"]
    assert (failed.result, failed.fault) == (Result.FAILURE, Fault.EVAL)
    assert failed.reason == "exited with status 127"
    assert hostile.finished() == ["victim"]


@pytest.mark.parametrize(
    "program", ["/hostile/missing", "missing", "/hostile/evals", "/etc/passwd", "/registry/0/bad"]
)
def test_an_image_that_has_none_ends_the_run(hostile: Hostile, program: str) -> None:
    """Also where there is something of that name that cannot run: one line, exit 3."""
    folder = hostile.registry("victim")
    (folder / "bad").write_text("#!/missing/interpreter\n")
    (folder / "bad").chmod(0o755)
    ended = hostile.run(EVALSET_RUN_COMMAND=program)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert f"has no command '{program}' that can run" in ended.stderr
    assert hostile.records() == []


def test_a_program_of_a_registry_folder_can_fail_like_that(hostile: Hostile) -> None:
    """It is looked for where the eval had it."""
    folder = hostile.registry("tini")
    (folder / "program").write_text('#!/bin/sh\nexec /hostile/program "$@"\n')
    (folder / "program").chmod(0o755)
    ended = hostile.run(EVALSET_RUN_COMMAND="/registry/0/program")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert hostile.records()[0].reason == "exited with status 127"

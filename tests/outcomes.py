"""Options, jobs and outcomes for the tests of every room that handles them."""

from pathlib import Path
from typing import Any

import msgspec

from runner.model import Attempt, Command, ContainerSettings, Fault, Job, Result
from runner.options import SETTINGS as SETTINGS_GIVEN
from runner.options import RunOptions

SETTINGS = ContainerSettings(
    image="evalset/evals:test",
    memory=2**30,
    cpus=1,
    pids_limit=100,
    gpus=None,
    timeout=60,
    network="none",
)


def asked(**changes: Any) -> RunOptions:  # noqa: ANN401 - any option
    """What a run of `m` and `s` is asked for."""
    given = {"model": "m", "eval_set": "s", "progress_dir": Path("/nowhere")}
    settings = {name: getattr(SETTINGS, name) for name in SETTINGS_GIVEN}
    return RunOptions(**(settings | given | changes))


def job(name: str = "a.dev.v0", *passed_through: str) -> Job:
    command = Command(("oaieval", "dummy", name, *passed_through))
    return Job(command=command, argv=command, settings=SETTINGS)


def success(of: Job, attempt: str = "1", **changes: Any) -> Attempt:  # noqa: ANN401 - any field
    outcome = Attempt(
        id=attempt,
        run="r1",
        host="host",
        command=of.command,
        eval=of.eval,
        result=Result.SUCCESS,
        exit_code=0,
        ended_at="2025-01-01T00:00:04Z",
        duration=4.2,
    )
    return msgspec.structs.replace(outcome, **changes)


def failure(of: Job, attempt: str = "1", **changes: Any) -> Attempt:  # noqa: ANN401 - any field
    failed = success(
        of,
        attempt,
        result=Result.FAILURE,
        fault=Fault.EVAL,
        exit_code=1,
        reason="exited with status 1",
    )
    return msgspec.structs.replace(failed, **changes)

import base64
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from runner.errors import LockHeld, NotPushed, RunnerError, UsageError
from runner.job import Job
from runner.pipeline.loop import RunResult
from runner.pipeline.options import Host, RunOptions, SnapshotOptions
from runner.pipeline.pins import difference, pin
from runner.pipeline.prepare import Prepared, kept_out, planned, prepare, this_host
from runner.pipeline.reports import STEP_SUMMARY, State, after_run, check_junit
from runner.pipeline.run import run
from runner.plan.mask import Mask
from runner.plan.plan import Plan
from runner.plan.resolve import Resolution
from runner.report.actions import group, inert
from runner.report.choose import display_for
from runner.report.text import evals, harmless, one_line, part_of_set


def new_id() -> str:
    """An id of the form of oaieval's run ids: the time, UTC, and eight random characters."""
    return datetime.now(UTC).strftime("%y%m%d%H%M%S") + base64.b32encode(os.urandom(5)).decode()


def run_command(
    options: RunOptions,
    *,
    out: TextIO,
    ours: Sequence[str] = (),
    resolution: Resolution | None = None,
) -> int:
    """Run an eval set, show it, and return the exit code.

    Raises:
        RunnerError: the run could not start or go on, or its last snapshot is not pushed.
        BrokenPipeError: it has ended and is on record, but nobody reads `out` any more.
    """
    began = time.monotonic()
    host = this_host()
    check_junit(options.junit)
    prepared = prepare(options, host, ours=ours, resolution=resolution)
    display = display_for(out)
    try:
        result = run(prepared, host, display, new_id=new_id, began=began)
    except (UsageError, LockHeld):
        raise  # it did not begin
    except Exception:
        with contextlib.suppress(RunnerError):  # which would hide why it ended
            _report(prepared, host, planned(prepared)[0])
        raise
    read = _tell(prepared, result, out)
    code = _report(prepared, host, result.plan)
    if result.not_pushed:
        later = push_command(options)
        line = f"{result.not_pushed}; push it later with `{later}`"
        if not read:
            _warn(line)
        elif result.exit_code == 0:
            raise NotPushed(line)
        else:
            display.warn(line)
    if not read:
        raise BrokenPipeError  # now that all is on record
    return result.exit_code or code


def push_command(options: RunOptions) -> str:
    """The command that pushes what a run's last snapshot holds."""
    from runner.share.remote import without_credentials  # noqa: PLC0415 - seldom needed

    where = options.snapshot or SnapshotOptions()
    words = ["evalset", "snapshot", "push", options.model, options.eval_set]
    given: dict[str, object] = {
        "--progress-dir": options.progress_dir,
        "--snapshot-branch": where.branch,
        "--snapshot-repo": where.repo,
        "--remote": where.remote and without_credentials(where.remote),
    }
    for option, value in given.items():
        if value is not None and (option, str(value)) != ("--progress-dir", "progress"):
            words += [option, str(value)]
    return shlex.join(words)


def _tell(prepared: Prepared, result: RunResult, out: TextIO) -> bool:
    """Say how a run ended; tell whether anybody reads it, for `head` may have gone."""
    try:
        _close(prepared, result, out)
        if result.in_common:
            print(inert(one_line(result.in_common)), file=out)
        if result.snapshot and not result.not_pushed:
            print(inert(one_line(f"the last snapshot is on {result.snapshot}")), file=out)
        out.flush()
    except OSError:  # nor does a disk that is full end what has ended well
        return False
    return True


def _close(prepared: Prepared, result: RunResult, out: TextIO) -> None:
    """Say what is on disk now, and how to go on."""
    plan = result.plan
    if not plan.todo and not result.outcomes:
        print(f"nothing to run; finished: {evals(len(plan.jobs))}", file=out)
        return
    from runner.pipeline.status import rows  # noqa: PLC0415 - a run that does nothing is fast
    from runner.report.summary import print_table  # noqa: PLC0415 - as above

    table = rows(prepared.layout, [job.command for job in plan.jobs])
    with group(out, "evals"):
        print_table(out, table)
    done = sum(row.state == "done" for row in table)
    whole = len(prepared.resolution.evals)
    part = f" ({whole} in the eval set)" if whole > len(table) else ""
    line = f"{done} of {evals(len(table))} finished{part}; logs are in {prepared.layout.evallogs}"
    if result.left_for_time:
        line += f"; {result.left_for_time} are left, for the time budget is used up"
    if done < len(table):
        line += "; the same command goes on with the rest"
    print(harmless(line), file=out)


def _warn(line: str) -> None:
    print(harmless(f"warning: {line}"), file=sys.stderr)


def _report(prepared: Prepared, host: Host, plan: Plan) -> int:
    """Write the results where the options and GitHub Actions want them."""
    junit = prepared.options.junit
    if junit is None and not host.environ.get(STEP_SUMMARY):
        return 0
    from runner.pipeline.status import rows  # noqa: PLC0415 - as above

    table = rows(prepared.layout, [job.command for job in plan.jobs])
    part = part_of_set(len(plan.whole), len(prepared.resolution.evals))
    return after_run(
        [State(layout=prepared.layout, rows=table, part=part)],
        junit=junit,
        environ=host.environ,
        mask=Mask(kept_out(prepared, host)),
    )


def dry_run_command(
    options: RunOptions, *, out: TextIO, as_json: bool, ours: Sequence[str] = ()
) -> int:
    """Print the plan of a run, and start nothing."""
    from runner.pipeline.preview import after_fetching  # noqa: PLC0415 - for a dry run alone

    host = this_host()

    def tell(line: str) -> None:
        if not as_json:
            print(inert(one_line(line)), file=out)

    ready = prepare(options, host, ours=ours)
    with after_fetching(ready, host, tell=tell, warn=_warn) as prepared:
        plan, damaged = planned(prepared)
        differs = _pins_warning(prepared, plan)
    for warning in (*prepared.warnings, *plan.warnings, *damaged, *differs):
        _warn(warning)
    if as_json:
        content = {
            "done": [job.command for job in plan.done],
            "todo": [job.command for job in plan.todo],
            "why": [{"command": job.command, "why": _reason(plan, job)} for job in plan.jobs],
        }
        print(msgspec.json.encode(content).decode(), file=out)
        return 0
    print(f"done ({len(plan.done)}):", file=out)
    for job in plan.done:
        print(_planned(plan, job), file=out)
    print(f"to do ({len(plan.todo)}):", file=out)
    for job in plan.todo:
        print(_planned(plan, job), file=out)
    return 0


def _pins_warning(prepared: Prepared, plan: Plan) -> list[str]:
    differs = difference(prepared, plan, pin(prepared, plan, new_id()))
    if differs and not prepared.options.repin:
        differs += "; without `--repin` the run stops here"
    return [differs] if differs else []


def _reason(plan: Plan, job: Job) -> str:
    return plan.how[job.eval] if job.eval in plan.how else plan.why[job.key]


def _planned(plan: Plan, job: Job) -> str:
    return inert(one_line(f"  {' '.join(job.command)}  ({_reason(plan, job)})"))

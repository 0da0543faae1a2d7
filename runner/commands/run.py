import contextlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click
import msgspec
from click.core import ParameterSource

from runner.commands.command_line import PassThroughCommand, evalset_command, typed
from runner.errors import LockHeld, NobodyReads, NotPushed, RunnerError, UsageError
from runner.host import STEP_SUMMARY, Host, new_id, this_host
from runner.model import Job, State
from runner.options import PROGRESS_DIR, SETTINGS, RunOptions, SnapshotOptions
from runner.parameters import call
from runner.records.state import EvalState, RunState, StateReader
from runner.report.text import evals, group, harmless, part_of_set, plain_line, print_warning

if TYPE_CHECKING:
    from runner.plan.plan import Plan
    from runner.registry.resolve import Resolution
    from runner.run.loop import RunResult
    from runner.run.prepare import Prepared


def run_eval_set(
    options: RunOptions,
    *,
    out: TextIO,
    ours: Sequence[str] = (),
    resolution: "Resolution | None" = None,
) -> int:
    """Run an eval set, show it, and return the exit code.

    Raises:
        RunnerError: the run could not start or continue, or its last snapshot is not pushed.
        NobodyReads: it has ended and is on record, but nobody reads `out` any more.
    """
    began = time.monotonic()
    from runner.report.display import display_for
    from runner.run.prepare import planned, prepare, state_of
    from runner.run.run import run

    host = this_host()
    if options.junit is not None:
        from runner.report.export import check_junit

        check_junit(options.junit)
    prepared = prepare(options, host, ours=ours, resolution=resolution)
    display = display_for(out)
    reader = StateReader()
    try:
        result = run(prepared, host, display, reader=reader, new_id=new_id, began=began)
    except (UsageError, LockHeld):
        raise  # it did not begin
    except Exception:
        with contextlib.suppress(RunnerError):  # which would hide why it ended
            _report(prepared, host, planned(prepared, state_of(prepared, reader)), reader)
        raise
    read = _tell(prepared, result, reader, out)
    code = _report(prepared, host, result.plan, reader)
    if result.not_pushed:
        later = push_command(options)
        line = f"{result.not_pushed}; push it later with `{later}`"
        if not read:
            print_warning(line)
        elif result.exit_code == 0:
            raise NotPushed(line)
        else:
            display.warn(line)
    if not read:
        raise NobodyReads(result.exit_code or code)
    return result.exit_code or code


def push_command(options: RunOptions) -> str:
    """The command that pushes what a run's last snapshot holds."""
    from runner.branch.remote import without_credentials

    where = options.snapshot or SnapshotOptions()
    words = ["evalset", "snapshot", "push", options.model, options.eval_set]
    given: dict[str, object] = {
        "--progress-dir": options.progress_dir,
        "--snapshot-branch": where.branch,
        "--snapshot-repo": where.repo,
        "--remote": where.remote and without_credentials(where.remote),
    }
    for option, value in given.items():
        if value is not None and (option, value) != ("--progress-dir", PROGRESS_DIR):
            words += [option, str(value)]
    return shlex.join(words)


def _tell(prepared: "Prepared", result: "RunResult", reader: StateReader, out: TextIO) -> bool:
    """Say how a run ended; tell whether anybody reads it, for `head` may have gone."""
    try:
        _close(prepared, result, reader, out)
        if result.in_common:
            print(plain_line(result.in_common), file=out)
        if result.snapshot and not result.not_pushed:
            print(plain_line(f"the last snapshot is on {result.snapshot}"), file=out)
        out.flush()
    except OSError:  # nor does a disk that is full end what has ended well
        return False
    return True


def _close(prepared: "Prepared", result: "RunResult", reader: StateReader, out: TextIO) -> None:
    """Say what is on disk now, and how to continue."""
    plan = result.plan
    unable = f"; {len(plan.unable)} cannot run: see above" if plan.unable else ""
    if not plan.todo and not result.outcomes:
        print(f"nothing to run; finished: {evals(len(plan.done))}{unable}", file=out)
        return
    from runner.records.spending import read_spent
    from runner.report.model_use import spent_line
    from runner.report.table import print_table
    from runner.run.stopping import UsedUp

    table = _table(prepared, plan, reader)
    with group(out, "evals"):
        print_table(out, table, hosts=bool(prepared.options.hosts))
    done = sum(row.state is State.DONE for row in table)
    whole = len(prepared.resolution.evals)
    part = f" ({whole} in the eval set)" if whole > len(table) else ""
    line = f"{done} of {evals(len(table))} finished{part}; logs are in {prepared.layout.evallogs}"
    if result.not_run:
        verb, them = ("is", "it") if result.not_run == 1 else ("are", "them")
        line += (
            f"; {result.not_run} {verb} left because the {result.used_up} has no room for {them}"
        )
    line += unable
    if done + len(plan.unable) < len(table):
        if result.not_run and result.used_up is UsedUp.MONEY:
            line += "; raise --budget, and the same command continues with the rest"
        else:
            line += "; the same command continues with the rest"
    print(harmless(line), file=out)
    spent = read_spent(prepared.layout, [job.command for job in plan.jobs])
    for message in spent.damaged:
        print_warning(message)
    if told := spent_line(spent):
        print(told, file=out)


def _table(prepared: "Prepared", plan: "Plan", reader: StateReader) -> list[EvalState]:
    state = RunState.from_directory(prepared.layout, reader)
    return state.evals([job.command for job in plan.jobs])


def _report(prepared: "Prepared", host: Host, plan: "Plan", reader: StateReader) -> int:
    """Write the results where the options and GitHub Actions want them."""
    junit = prepared.options.junit
    if junit is None and not host.environ.get(STEP_SUMMARY):
        return 0
    from runner.report.export import after_run
    from runner.report.figures import Results
    from runner.run.prepare import secret_variables
    from runner.secrets import Mask

    table = _table(prepared, plan, reader)
    part = part_of_set(len(plan.whole), len(prepared.resolution.evals))
    return after_run(
        [Results(layout=prepared.layout, rows=table, part=part)],
        junit=junit,
        environ=host.environ,
        mask=Mask(secret_variables(prepared, host)),
    )


def show_plan(options: RunOptions, *, out: TextIO, ours: Sequence[str] = ()) -> int:
    """Print the plan of a run, and start nothing; return 1 if some of it cannot run."""
    from runner.report.display import obstacle_lines
    from runner.run.background_snapshots import after_fetching
    from runner.run.containers import with_locks
    from runner.run.pinning import missing_data, pin
    from runner.run.prepare import planned, prepare, state_of
    from runner.run.unable import find_obstacles

    host = this_host()

    def tell(line: str) -> None:
        if not options.as_json:
            print(plain_line(line), file=out)

    ready = prepare(options, host, ours=ours)
    with after_fetching(ready, host, tell=tell, warn=print_warning) as found:
        state = state_of(found)
        plan = planned(found, state)
        locked = with_locks(found, plan, state.run, host, tell=tell)
        prepared = find_obstacles(locked, plan, host, makes=False, tell=tell)
        plan = planned(prepared, state)
        differs = pin(prepared, plan, new_id(), state.run).differs
        missing = missing_data(prepared, plan, state.run)
    if differs and not options.repin:
        differs += "; without `--repin` the run stops here"
    for warning in filter(
        None, (*prepared.warnings, *plan.warnings, *state.damaged, differs, missing)
    ):
        print_warning(warning)
    if options.as_json:
        content = {
            "done": [job.command for job in plan.done],
            "todo": [job.command for job in plan.todo],
            "cannot": [job.command for job in plan.unable],
            "why": [{"command": job.command, "why": plan.why[job.key]} for job in plan.jobs],
        }
        print(msgspec.json.encode(content).decode(), file=out)
        return int(bool(plan.unable))
    print(f"finished ({len(plan.done)}):", file=out)
    for job in plan.done:
        print(_planned(plan, job), file=out)
    print(f"to do ({len(plan.todo)}):", file=out)
    for job in plan.todo:
        print(_planned(plan, job), file=out)
    for line in obstacle_lines(prepared.obstacles):
        print(plain_line(line), file=out)
    return int(bool(plan.unable))


def _planned(plan: "Plan", job: Job) -> str:
    return plain_line(f"  {' '.join(job.command)}  ({plan.why[job.key]})")


def options_of(context: click.Context) -> RunOptions:
    """What a command line of `evalset run` asks for."""
    asked = context.get_parameter_source("exit_on_error") is not ParameterSource.DEFAULT
    return call(
        RunOptions,
        context.params,
        explicit=typed(context, SETTINGS),
        all_or_none=asked and context.params["exit_on_error"],
    )


@evalset_command(
    "evalset run gpt-4 test-basic --jobs 4 -e HF_TOKEN --max_samples 25",
    kind=PassThroughCommand,
    of=RunOptions,
    notes=(
        "Every option can be given as a variable, too (EVALSET_JOBS for --jobs), in evalset.toml, "
        "or in [tool.evalset] of pyproject.toml; the command line wins. What is no option of "
        "evalset goes to each eval's command; what comes after -- always does."
    ),
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
)
def command(context: click.Context) -> int:
    """Run what is left of EVAL_SET with MODEL, each eval in its own container.

    Finished evals are recorded immediately; run the same command again to resume. Arguments that
    are not evalset's own options are passed through to each eval's command, after MODEL and
    EVAL_SET.
    """
    options = options_of(context)
    if options.as_json and not options.dry_run:
        raise click.UsageError("--json needs --dry-run; add that, or leave --json out")
    _check_snapshot(context)
    ours = list(command.our_options())
    if options.dry_run:
        return show_plan(options, out=sys.stdout, ours=ours)
    return run_eval_set(options, out=sys.stdout, ours=ours)


def _check_snapshot(ctx: click.Context) -> None:
    """Refuse what was typed about snapshots where none are taken."""
    if ctx.params["snapshot"]:
        return
    names = ("remote", "snapshot_branch", "snapshot_repo", "snapshot_every", "snapshot_answers")
    for name in sorted(typed(ctx, names), key=names.index):
        option = f"--{name.replace('_', '-')}"
        raise click.UsageError(f"{option} needs --snapshot; add that, or leave {option} out")

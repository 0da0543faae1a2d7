import contextlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from runner.commands.parameters import (
    Decorator,
    amount,
    duration,
    gpus,
    none_or_size,
    options_from,
    pause,
    snapshot_max_file,
    snapshots,
    tmp_limit,
)
from runner.commands.parsing import (
    PassThroughCommand,
    SectionedCommand,
    complete_eval_set,
    complete_model,
)
from runner.engine.engine import EVAL_NETWORK
from runner.errors import LockHeld, NotPushed, RunnerError, UsageError
from runner.host import Host, new_id, this_host
from runner.image.image import DEFAULT_IMAGE
from runner.model import Job, State
from runner.options import RunOptions, SnapshotOptions
from runner.plan.plan import Plan
from runner.records.state import EvalState, RunState
from runner.registry.resolve import Resolution
from runner.report.ci import STEP_SUMMARY, Results, after_run, check_junit
from runner.report.display import display_for
from runner.report.text import evals, group, harmless, inert, one_line, part_of_set
from runner.run.loop import RunResult
from runner.run.pins import pin
from runner.run.prepare import Prepared, kept_out, planned, prepare, state_of
from runner.run.run import run
from runner.secrets import Mask


def run_eval_set(
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
            _report(prepared, host, planned(prepared, state_of(prepared)))
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
    from runner.report.table import print_table

    table = _table(prepared, plan)
    with group(out, "evals"):
        print_table(out, table)
    done = sum(row.state is State.DONE for row in table)
    whole = len(prepared.resolution.evals)
    part = f" ({whole} in the eval set)" if whole > len(table) else ""
    line = f"{done} of {evals(len(table))} finished{part}; logs are in {prepared.layout.evallogs}"
    if result.left_for_time:
        line += f"; {result.left_for_time} are left because the time budget is used up"
    if done < len(table):
        line += "; the same command continues with the rest"
    print(harmless(line), file=out)


def _table(prepared: Prepared, plan: Plan) -> list[EvalState]:
    state = RunState.from_directory(prepared.layout)
    return state.evals([job.command for job in plan.jobs])


def _warn(line: str) -> None:
    print(harmless(f"warning: {line}"), file=sys.stderr)


def _report(prepared: Prepared, host: Host, plan: Plan) -> int:
    """Write the results where the options and GitHub Actions want them."""
    junit = prepared.options.junit
    if junit is None and not host.environ.get(STEP_SUMMARY):
        return 0
    table = _table(prepared, plan)
    part = part_of_set(len(plan.whole), len(prepared.resolution.evals))
    return after_run(
        [Results(layout=prepared.layout, rows=table, part=part)],
        junit=junit,
        environ=host.environ,
        mask=Mask(kept_out(prepared, host)),
    )


def show_plan(options: RunOptions, *, out: TextIO, as_json: bool, ours: Sequence[str] = ()) -> int:
    """Print the plan of a run, and start nothing."""
    from runner.run.snapshots import after_fetching

    host = this_host()

    def tell(line: str) -> None:
        if not as_json:
            print(inert(one_line(line)), file=out)

    ready = prepare(options, host, ours=ours)
    with after_fetching(ready, host, tell=tell, warn=_warn) as prepared:
        state = state_of(prepared)
        plan = planned(prepared, state)
        differs = pin(prepared, plan, new_id(), state.run).differs
    if differs and not options.repin:
        differs += "; without `--repin` the run stops here"
    for warning in filter(None, (*prepared.warnings, *plan.warnings, *state.damaged, differs)):
        _warn(warning)
    if as_json:
        content = {
            "done": [job.command for job in plan.done],
            "todo": [job.command for job in plan.todo],
            "why": [{"command": job.command, "why": plan.why[job.key]} for job in plan.jobs],
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


def _planned(plan: Plan, job: Job) -> str:
    return inert(one_line(f"  {' '.join(job.command)}  ({plan.why[job.key]})"))


def _option(*spellings: str, **settings: Any) -> Decorator[Any]:  # noqa: ANN401 - click's
    """An option that the environment can give, too, as EVALSET_ and its name."""
    name = spellings[-1].partition("/")[0].lstrip("-").replace("-", "_").upper()
    return click.option(*spellings, envvar=f"EVALSET_{name}", **settings)


class RunCommand(SectionedCommand, PassThroughCommand):
    """Has upstream's grammar, and so many options that its help needs headings."""


@click.command(
    cls=RunCommand,
    sections={
        "select": "What to run",
        "env": "What each eval gets",
        "exit_on_error": "When something goes wrong",
        "progress_dir": "What is kept",
        "snapshot": "Snapshots on a Git branch",
    },
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    epilog=(
        "Example: evalset run gpt-4 test-basic --jobs 4 -e HF_TOKEN --max_samples 25\n\n"
        "Every option can be given as a variable, too (EVALSET_JOBS for --jobs), in evalset.toml, "
        "or in [tool.evalset] of pyproject.toml; the command line wins. What is not an option of "
        "ours goes to each eval's command; what stands after -- always does."
    ),
)
@click.argument("model", shell_complete=complete_model)
@click.argument("eval_set", shell_complete=complete_eval_set)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@_option("--select", multiple=True, metavar="PATTERN", help="Run these evals only; * is any text.")
@_option("--exclude", multiple=True, metavar="PATTERN", help="Leave these evals out.")
@_option("--shard", metavar="I/N", help="Run the I-th of N disjoint parts.")
@_option(
    "--registry-path",
    "--registry_path",
    "registry_path",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(),
    help="A further registry folder, mounted read-only.",
)
@_option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    help="Containers at once.  [default: the engine's CPUs]",
)
@_option(
    "--resume/--no-resume", default=True, help="Leave out what is finished.", show_default=True
)
@_option(
    "--repin",
    is_flag=True,
    help="Go on where image, registry, network, GPUs or limits are not those of what is finished.",
)
@click.option("--dry-run", is_flag=True, help="Print what is done and what would be run, and why.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print one JSON object.")
@click.option(
    "-e",
    "--env",
    multiple=True,
    metavar="NAME",
    envvar="EVALSET_ENV",
    help="Hand in this variable of the host, by name.",
)
@_option(
    "--env-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Hand in the variables of this file.",
)
@_option(
    "--timeout",
    metavar="DURATION",
    type=duration,
    default="1h",
    show_default=True,
    help="Stop an eval after this.",
)
@_option(
    "--image",
    metavar="NAME",
    default=DEFAULT_IMAGE,
    show_default=True,
    help="Image that evals run in.",
)
@_option(
    "--memory",
    metavar="SIZE",
    type=amount,
    default="4g",
    show_default=True,
    help="Memory limit of an eval.",
)
@_option(
    "--cpus",
    metavar="NUMBER",
    type=click.FloatRange(min=0.01),
    default=2,
    show_default=True,
    help="CPU limit of an eval.",
)
@_option(
    "--pids-limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Processes and threads of an eval, at the most.",
)
@_option(
    "--tmp-limit",
    metavar="SIZE",
    type=tmp_limit,
    default="10g",
    show_default=True,
    help="What an eval may have in its /tmp, logs included.",
)
@_option(
    "--network",
    metavar="NAME",
    default=EVAL_NETWORK,
    show_default=True,
    help="Docker network of an eval; `none` for no network.",
)
@_option(
    "--gpus", type=gpus, metavar="all|N|device=ID", help="GPUs of an eval, as `docker run --gpus`."
)
@_option(
    "--run-command",
    metavar="PROGRAM",
    default="oaieval",
    show_default=True,
    help="Program that runs one eval; takes model, eval and arguments.",
)
@_option(
    "--exit-on-error/--no-exit-on-error",
    default=True,
    show_default=True,
    help="Start no new eval once one has failed.",
)
@_option(
    "--retries",
    metavar="N",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Try again so often where not the eval but its environment failed.",
)
@_option(
    "--max-failures",
    metavar="N",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Start no new eval once so many in a row have failed alike; 0 goes on.",
)
@_option(
    "--min-free-disk",
    type=none_or_size,
    metavar="SIZE",
    default="1g",
    show_default=True,
    help="Start no new eval while less than this is free on the disk.",
)
@_option(
    "--engine-wait",
    type=duration,
    metavar="DURATION",
    default="2m",
    show_default=True,
    help="Wait so long for a Docker engine that goes away in mid-run.",
)
@_option(
    "--grace",
    type=pause,
    metavar="DURATION",
    default="10s",
    show_default=True,
    help="On Ctrl-C, give running evals this long to end.",
)
@_option(
    "--time-budget",
    type=duration,
    metavar="DURATION",
    help="Start no eval that would usually not end within this time; exit 75 if any is left.",
)
@_option(
    "--progress-dir",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default="progress",
    show_default=True,
    help="Where a run's files go, laid out like upstream's /tmp.",
)
@_option(
    "--junit",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="At the end, write the results to this file as JUnit XML.",
)
@_option("--snapshot", is_flag=True, help="Commit the progress to a branch; go on from it.")
@snapshots
@_option(
    "--snapshot-every",
    type=duration,
    metavar="DURATION",
    default="60s",
    show_default=True,
    help="Take and push a snapshot at least so often, if anything is new.",
)
@snapshot_max_file
@click.pass_context
def command(ctx: click.Context, /, *, dry_run: bool, as_json: bool, **params: Any) -> int:  # noqa: ANN401 - any value
    """Run what is left of EVAL_SET with MODEL, each eval in its own container.

    Finished evals are recorded at once; run the same again to go on. Arguments that are not
    options of ours are passed through to each eval's command, after MODEL and EVAL_SET.
    """
    if as_json and not dry_run:
        raise click.UsageError("--json needs --dry-run; add that, or leave --json out")
    _check_snapshot(ctx)
    options = options_from(ctx, params)
    spellings = (
        list(ctx.command.our_options()) if isinstance(ctx.command, PassThroughCommand) else []
    )
    if dry_run:
        return show_plan(options, out=sys.stdout, as_json=as_json, ours=spellings)
    return run_eval_set(options, out=sys.stdout, ours=spellings)


def _check_snapshot(ctx: click.Context) -> None:
    """Refuse what was typed about snapshots where none are taken."""
    if ctx.params["snapshot"]:
        return
    for name in ("remote", "snapshot_branch", "snapshot_repo", "snapshot_every"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} needs --snapshot; add that, or leave {option} out")

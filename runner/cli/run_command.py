import sys
from pathlib import Path
from typing import Any

import click

from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.options import Decorator, snapshot_max_file, snapshots
from runner.cli.pass_through import PassThroughCommand
from runner.cli.run_options import options_from
from runner.cli.sections import SectionedCommand
from runner.cli.types import amount, duration, gpus, none_or_size, pause, tmp_limit
from runner.execute.engine import EVAL_NETWORK
from runner.execute.image import DEFAULT_IMAGE


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
    from runner.pipeline.command import dry_run_command, run_command  # noqa: PLC0415 - after parsing

    if as_json and not dry_run:
        raise click.UsageError("--json needs --dry-run; add that, or leave --json out")
    _check_snapshot(ctx)
    options = options_from(ctx, params)
    spellings = (
        list(ctx.command.our_options()) if isinstance(ctx.command, PassThroughCommand) else []
    )
    if dry_run:
        return dry_run_command(options, out=sys.stdout, as_json=as_json, ours=spellings)
    return run_command(options, out=sys.stdout, ours=spellings)


def _check_snapshot(ctx: click.Context) -> None:
    """Refuse what was typed about snapshots where none are taken."""
    if ctx.params["snapshot"]:
        return
    for name in ("remote", "snapshot_branch", "snapshot_repo", "snapshot_every"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} needs --snapshot; add that, or leave {option} out")

import sys
from pathlib import Path

import click

from runner.cli.completion import complete_eval_set, complete_model
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import as_json, progress_dir, remote, snapshot_repo


@click.command(cls=ConfiguredCommand, epilog="Example: evalset status gpt-4 test-basic")
@click.argument("model", required=False, shell_complete=complete_model)
@click.argument("eval_set", required=False, shell_complete=complete_eval_set)
@progress_dir
@click.option("--branch", metavar="NAME", help="Read a progress branch, not the directory.")
@snapshot_repo
@remote
@as_json
@click.option(
    "--junit",
    "junit_file",  # not by its own name, for a configuration file's is that of runs
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the same to this file as JUnit XML.",
)
@click.option(
    "--summary", is_flag=True, help="Add the same to the summary of a GitHub Actions job."
)
@click.option(
    "--check", is_flag=True, help="Exit 1 unless every eval of the last plan is finished."
)
def command(
    *,
    model: str | None,
    eval_set: str | None,
    progress_dir: Path,
    branch: str | None,
    snapshot_repo: Path | None,
    remote: str | None,
    as_json: bool,
    junit_file: Path | None,
    summary: bool,
    check: bool,
) -> int:
    """Show what is done, what failed and what is to do.

    With --branch, MODEL and EVAL_SET may be left out to see all that the branch has.
    """
    if branch is not None:
        from runner.pipeline.branch_status import (  # noqa: PLC0415 - after parsing
            parts_of_branch,
            show_branch,
        )
        from runner.pipeline.options import SnapshotOptions  # noqa: PLC0415 - as above

        options = SnapshotOptions(branch=branch, repo=snapshot_repo, remote=remote)
        parts = parts_of_branch(progress_dir, options, branch, model=model, eval_set=eval_set)
        finished = show_branch(
            parts,
            root=progress_dir,
            out=sys.stdout,
            as_json=as_json,
            junit=junit_file,
            summary=summary,
        )
        return int(check and not finished)
    if model is None or eval_set is None:
        raise click.UsageError("MODEL and EVAL_SET are missing; only --branch does without them")
    from runner.pipeline.status import show  # noqa: PLC0415 - after parsing

    finished = show(
        progress_dir,
        model,
        eval_set,
        out=sys.stdout,
        as_json=as_json,
        junit=junit_file,
        summary=summary,
    )
    return int(check and not finished)

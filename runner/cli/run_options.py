from collections.abc import Mapping
from typing import Any

import click

from runner.cli.snapshot_options import snapshot_options
from runner.job import ContainerSettings
from runner.pipeline.options import RunOptions


def options_from(ctx: click.Context, params: Mapping[str, Any], **changes: Any) -> RunOptions:  # noqa: ANN401 - any value
    """Options of a run from click's parameters, with `changes` for what was not given."""
    default = {None, click.core.ParameterSource.DEFAULT}
    given = dict(params) | {
        name: value for name, value in changes.items() if ctx.get_parameter_source(name) in default
    }
    settings = ContainerSettings.__struct_fields__
    explicit = {
        name
        for name in settings
        if name != "env"
        and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    return RunOptions(
        model=given["model"],
        eval_set=given["eval_set"],
        passed_through=tuple(given["args"]),
        registry_paths=tuple(given["registry_path"]),
        run_command=given["run_command"],
        resume=given["resume"],
        repin=given["repin"],
        exit_on_error=given["exit_on_error"],
        jobs=given["jobs"],
        retries=given["retries"],
        max_failures=given["max_failures"],
        min_free_disk=given["min_free_disk"],
        engine_wait=given["engine_wait"],
        grace=given["grace"],
        settings=ContainerSettings(
            image=given["image"],
            memory=given["memory"],
            cpus=given["cpus"],
            pids_limit=given["pids_limit"],
            gpus=given["gpus"],
            timeout=given["timeout"],
            network=given["network"],
            tmp_limit=given["tmp_limit"],
        ),
        explicit=frozenset(explicit),
        env=tuple(given["env"]),
        env_file=given["env_file"],
        progress_dir=given["progress_dir"],
        select=tuple(given["select"]),
        exclude=tuple(given["exclude"]),
        shard=given["shard"],
        time_budget=given["time_budget"],
        junit=given["junit"],
        as_typed=given.get("as_typed", False),
        snapshot=snapshot_options(given) if given.get("snapshot") else None,
    )

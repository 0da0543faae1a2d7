from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from runner.errors import UsageError
from runner.model import ContainerSettings
from runner.options import RunOptions, SnapshotOptions
from runner.units import parse_duration, parse_gpus, parse_memory, parse_size, parse_tmp_limit


def amount(value: str) -> int:
    """Read an amount of memory, such as `4g`, into bytes, for an option's `type`."""
    try:
        return parse_memory(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def size(value: str) -> int:
    """Read a number of bytes, such as `50m`, for an option's `type`."""
    try:
        return parse_size(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def none_or_size(value: str) -> int:
    """Read a number of bytes, or that there is to be none."""
    return 0 if value == "0" else size(value)


def tmp_limit(value: str) -> int:
    """Read how much an eval may have in its `/tmp`, such as `10g`, into bytes."""
    try:
        return parse_tmp_limit(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def duration(value: str) -> float:
    """Read a duration, such as `1h30m`, into seconds, for an option's `type`."""
    try:
        return parse_duration(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def pause(value: str) -> float:
    """Read a duration that may be none at all."""
    return 0.0 if value in {"0", "0s"} else duration(value)


def gpus(value: str) -> str:
    """Check which GPUs are asked for."""
    try:
        return parse_gpus(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


Body = TypeVar("Body", bound=Callable[..., Any])

Decorator = Callable[[Body], Body]


def progress_dir(function: Body) -> Body:
    """The option that says where a run's files are."""
    return click.option(
        "--progress-dir",
        type=click.Path(path_type=Path),
        default="progress",
        show_default=True,
        envvar="EVALSET_PROGRESS_DIR",
        help="Where the run's files are.",
    )(function)


def as_json(function: Body) -> Body:
    """The option for programs that read the output."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout."
    )(function)


def image(function: Body) -> Body:
    """The option that names the eval image."""
    from runner.image.image import DEFAULT_IMAGE

    return click.option(
        "--image",
        default=DEFAULT_IMAGE,
        show_default=True,
        envvar="EVALSET_IMAGE",
        help="Image that evals run in.",
    )(function)


def registry_path(function: Body) -> Body:
    """The option for further registry folders."""
    return click.option(
        "--registry-path",
        "--registry_path",
        "registry_path",
        multiple=True,
        type=click.Path(),
        envvar="EVALSET_REGISTRY_PATH",
        help="A further registry folder.",
    )(function)


def snapshots(function: Body) -> Body:
    """The options that say where snapshots go."""
    branch = click.option(
        "--snapshot-branch",
        metavar="NAME",
        envvar="EVALSET_SNAPSHOT_BRANCH",
        help="Branch of the snapshots.  [default: evalset/MODEL.EVAL_SET]",
    )
    return branch(snapshot_repo(remote(function)))


def snapshot_repo(function: Body) -> Body:
    """The option that names the repository of the snapshots."""
    return click.option(
        "--snapshot-repo",
        type=click.Path(path_type=Path),
        envvar="EVALSET_SNAPSHOT_REPO",
        help="Its repository.  [default: the one around this folder, else one of our own]",
    )(function)


def remote(function: Body) -> Body:
    """The option that names the remote of the snapshots."""
    return click.option(
        "--remote",
        metavar="NAME|URL",
        envvar="EVALSET_REMOTE",
        help="Where it is pushed to; `none` for nowhere.  [default: the repository's own]",
    )(function)


def snapshot_max_file(function: Body) -> Body:
    """The option that says which files are too large for a snapshot."""
    return click.option(
        "--snapshot-max-file",
        type=size,
        metavar="SIZE",
        default="50m",
        show_default=True,
        envvar="EVALSET_SNAPSHOT_MAX_FILE",
        help="Larger files are committed compressed, or stay here.",
    )(function)


# Parameters of the commands that take some of these, and what they say.
_FIELDS = {
    "snapshot_branch": "branch",
    "snapshot_repo": "repo",
    "remote": "remote",
    "snapshot_every": "every",
    "snapshot_max_file": "max_file",
}


def snapshot_options(given: Mapping[str, Any]) -> SnapshotOptions:
    """Where snapshots go, from click's parameters; what a command does not take is the default."""
    return SnapshotOptions(
        **{field: given[name] for name, field in _FIELDS.items() if name in given}
    )


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

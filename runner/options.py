from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.files import named
from runner.model import ContainerSettings


class SnapshotOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where snapshots go.

    Attributes:
        branch: its name; None is `evalset/{model}.{eval_set}`.
        repo: a folder in the repository; None is the one around the current folder, or else one
            below the progress directory.
        remote: name or address, or `none`; None is the remote of the repository's current branch.
        max_file: bytes up to which a file is committed.
        every: seconds between two snapshots, at the most.
    """

    branch: str | None = None
    repo: Path | None = None
    remote: str | None = None
    max_file: int = 50 * 2**20
    every: float = 60.0


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that one invocation of `evalset run` was asked for.

    Attributes:
        model: as given to `oaieval`.
        eval_set: name of the eval set.
        passed_through: arguments for every command.
        registry_paths: registry folders as typed.
        as_typed: whether commands carry those as typed, as upstream's do, and not the place
            where the container sees them.
        run_command: the program that runs one eval.
        resume: whether to leave out what is finished.
        repin: whether to go on, with a warning, where what is finished was run otherwise.
        exit_on_error: whether the first failure keeps new evals from starting.
        jobs: containers at once; None is as many as the engine has CPUs.
        retries: how often an attempt that the environment spoiled is made again.
        max_failures: how many evals in a row may fail alike before nothing more is started; 0 is
            any number.
        min_free_disk: bytes that must be free for an eval to be started.
        engine_wait: seconds in which an engine that went away in mid-run has to come back.
        grace: seconds that running evals get to end when the run is interrupted.
        settings: what a container gets where no rule says otherwise.
        explicit: names of the settings that were given on the command line, which no rule
            overrides.
        env: names of variables to hand in besides the usual ones.
        env_file: a file of variables to hand in.
        progress_dir: the progress directory.
        select: patterns of evals to run; none selects all.
        exclude: patterns of evals to leave out.
        shard: `I/N`.
        snapshot: where snapshots go; None takes none.
        time_budget: seconds after which nothing runs any more; None is no end.
        junit: a file for the results as JUnit XML.
    """

    model: str
    eval_set: str
    passed_through: tuple[str, ...] = ()
    registry_paths: tuple[str, ...] = ()
    as_typed: bool = False
    run_command: str = "oaieval"
    resume: bool = True
    repin: bool = False
    exit_on_error: bool = True
    jobs: int | None = None
    retries: int = 2
    max_failures: int = 5
    min_free_disk: int = 2**30
    engine_wait: float = 120.0
    grace: float = 10.0
    settings: ContainerSettings
    explicit: frozenset[str] = frozenset()
    env: tuple[str, ...] = ()
    env_file: Path | None = None
    progress_dir: Path
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shard: str | None = None
    snapshot: SnapshotOptions | None = None
    time_budget: float | None = None
    junit: Path | None = None


Setting = str | int | float | bool | list[str]


def check_config(
    table: Mapping[str, object], *, source: str, known: Collection[str]
) -> dict[str, Setting]:
    """Check the settings of a configuration file, whose keys are option names.

    Args:
        table: `[tool.evalset]` of a `pyproject.toml`, or a whole `evalset.toml`.
        source: the file, for messages.
        known: the names of options with underscores, as `progress_dir`.

    Returns:
        The settings by name with underscores; the file may have hyphens as the options do.

    Raises:
        UsageError: a key is unknown or stands twice, or a value is neither text, a number, true or
            false, nor a list of texts.
    """
    settings: dict[str, Setting] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            hint = did_you_mean(name, known) or "; `evalset run --help` shows the options"
            raise UsageError(f"{source}: unknown key `{key}`{hint}")
        if name in settings:
            raise UsageError(
                f"{source}: `{key}` stands twice, with a hyphen and an underscore; leave one out"
            )
        settings[name] = _check_value(source, key, value)
    return settings


def _check_value(source: str, key: str, value: object) -> Setting:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise UsageError(f"{source}: `{key}` must be text, a number, true or false, or a list of texts")


def find_configuration(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest configuration at or above `folder`, and its table; None when there is none.

    In each folder `evalset.toml` comes before `[tool.evalset]` of `pyproject.toml`.
    """
    for place in (folder, *folder.parents):
        path = place / "evalset.toml"
        if path.is_file():
            return path, _load(path)
        path = place / "pyproject.toml"
        if path.is_file():
            tool = _load(path).get("tool")
            if isinstance(tool, dict) and "evalset" in tool:
                table = tool["evalset"]
                if not isinstance(table, dict):
                    raise UsageError(f"{path}: `tool.evalset` must be a table")
                return path, table
    return None


def _load(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most folders have no configuration

    with named(path, "read"):
        content = path.read_bytes()
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: this is not valid TOML: {error}") from None

from collections.abc import Collection, Mapping

from runner.errors import UsageError
from runner.plan.closest import did_you_mean

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

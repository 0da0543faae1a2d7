from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.errors import UsageError, did_you_mean
from runner.files import named
from runner.parameters import Parameter

Setting = str | int | float | bool | list[str | int]


def read_configuration(
    folder: Path, parameters: Iterable[Parameter], *, every_key: bool
) -> dict[str, Setting]:
    """What the nearest configuration says of these parameters, by their names.

    Args:
        folder: where to begin to look.
        parameters: what a command takes.
        every_key: whether a key that is none of them is an error; else it is passed over, for
            the file is written for `evalset run`.

    Raises:
        UsageError: there is one that says what cannot be.
    """
    found = find_configuration(folder)
    if found is None:
        return {}
    path, table = found
    known = {parameter.name: parameter for parameter in parameters if parameter.configurable}
    if not every_key:
        table = {key: value for key, value in table.items() if key.replace("-", "_") in known}
    return check_config(table, source=str(path), known=known)


def check_config(
    table: Mapping[str, object], *, source: str, known: Mapping[str, Parameter]
) -> dict[str, Setting]:
    """Check the settings of a configuration file, whose keys are option names.

    Args:
        table: `[tool.evalset]` of a `pyproject.toml`, or a whole `evalset.toml`.
        source: the file, for messages.
        known: what may be set, by name.

    Returns:
        The settings by name with underscores; the file may have hyphens as the options do.

    Raises:
        UsageError: a key is unknown or is given twice, or its value is not of the option's type.
    """
    settings: dict[str, Setting] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            hint = did_you_mean(name, known) or "`evalset run --help` shows the options"
            raise UsageError(f"{source}: unknown key `{key}`", hint)
        if name in settings:
            raise UsageError(
                f"{source}: `{key}` is given twice, with a hyphen and an underscore",
                "leave one out",
            )
        settings[name] = _check_value(source, key, known[name], value)
    return settings


def _check_value(source: str, key: str, parameter: Parameter, value: object) -> Setting:
    kind = parameter.kind
    # A number is as good as its text where a text is read, be it of one value or of several.
    text = (str, int) if parameter.multiple and kind and kind.read else (str,)
    if isinstance(value, list) and all(isinstance(each, text) for each in value):
        wrong = "" if parameter.multiple else "one value, not a list"
    elif not isinstance(value, str | int | float):
        raise UsageError(
            f"{source}: `{key}` must be text, a number, true or false, or a list of texts"
        )
    elif parameter.type is bool:
        wrong = "" if isinstance(value, bool) else "true or false"
    elif isinstance(value, bool):
        wrong = "a value, not true or false"
    elif isinstance(value, float) and parameter.type is int and not (kind and kind.read):
        wrong = "a whole number"
    elif (parameter.multiple or (kind and kind.is_path)) and not isinstance(value, text):
        wrong = "text"
    else:
        wrong = ""
    if wrong:
        raise UsageError(f"{source}: `{key}` takes {wrong}")
    if parameter.multiple and isinstance(value, str | int):
        return [value]
    return value


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

from pathlib import Path
from typing import Any

import click

from runner.errors import UsageError
from runner.plan.config import check_config
from runner.record import config_file

# Options that say what to do this once, and so cannot stand in a file.
NOT_CONFIGURED = ("dry_run", "as_json", "help")


class ConfiguredCommand(click.Command):
    """A command whose options a configuration file may give.

    Attributes:
        knows_every_key: whether a key that is no option of this command is an error; the file
            is written for `evalset run`, and the other commands take from it what they know.
    """

    knows_every_key = False

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's
    ) -> click.Context:
        """Take defaults from the configuration file."""
        if not extra.get("resilient_parsing"):
            try:
                extra.setdefault("default_map", configured(self))
            except UsageError:
                if not {"-h", "--help"} & set(args):  # which says what would be right
                    raise
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.BadParameter as error:
            if source := _not_typed(error):
                raise UsageError(f"{source}: {error.format_message()}") from None
            raise


def configured(command: ConfiguredCommand) -> dict[str, Any]:
    """Defaults for a command's options from `evalset.toml` or `[tool.evalset]`."""
    found = config_file.find(Path.cwd())
    if found is None:
        return {}
    path, table = found
    options = {
        param.name: param
        for param in command.params
        if isinstance(param, click.Option) and param.name and param.name not in NOT_CONFIGURED
    }
    if not command.knows_every_key:
        table = {key: value for key, value in table.items() if key.replace("-", "_") in options}
    values = check_config(table, source=str(path), known=options)
    for name, value in values.items():
        if wrong := _wrong_type(options[name], value):
            raise UsageError(f"{path}: `{name}` takes {wrong}")
    return {
        name: [value] if options[name].multiple and isinstance(value, str) else value
        for name, value in values.items()
    }


def _wrong_type(option: click.Option, value: object) -> str:
    """What an option takes, where click would make something else of a file's value, or fail."""
    if isinstance(value, list) and not option.multiple:
        return "one value, not a list"
    if option.is_flag:
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(value, bool):
        return "a value, not true or false"
    if isinstance(value, float) and isinstance(option.type, click.IntRange):
        return "a whole number"
    if (option.multiple or isinstance(option.type, click.Path)) and not isinstance(
        value, str | list
    ):
        return "text"
    return ""


def _not_typed(error: click.BadParameter) -> str:
    """Where a bad value stands that is not on the command line; empty for one that is."""
    if error.ctx is None or error.param is None or error.param.name is None:
        return ""
    match error.ctx.get_parameter_source(error.param.name):
        case click.core.ParameterSource.DEFAULT_MAP:
            found = config_file.find(Path.cwd())
            return str(found[0]) if found else ""
        case click.core.ParameterSource.ENVIRONMENT:
            return str(error.param.envvar)
    return ""

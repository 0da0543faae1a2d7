from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from runner.errors import RunnerError, UsageError
from runner.host import this_host
from runner.options import check_config, find_configuration
from runner.plan.grammar import split
from runner.registry.entries import (
    Registry,
    RegistryCache,
    merge_registries,
    parse_registry,
    read_folder,
)


def complete_eval_set(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Eval sets for shell completion."""
    return [name for name in known_registry().eval_sets if name.startswith(incomplete)]


def complete_eval(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Evals for shell completion."""
    return [name for name in known_registry().evals if name.startswith(incomplete)]


def complete_model(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Models for shell completion: `dummy`, completion functions and solvers."""
    registry = known_registry()
    names = ("dummy", *registry.completion_fns, *registry.solvers)
    return [name for name in names if name.startswith(incomplete)]


def known_registry() -> Registry:
    """What is known without asking the engine: the last image's registry, and the own folders."""
    host = this_host()
    registries = [RegistryCache(host.cache).newest() or Registry()]
    for folder in (host.home / ".evals", Path("registry")):
        if folder.is_dir():
            try:
                registries = [merge_registries([*registries, parse_registry(read_folder(folder))])]
            except RunnerError:
                continue  # pressing Tab is no time for an error
    return registries[0]


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
    found = find_configuration(Path.cwd())
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
            found = find_configuration(Path.cwd())
            return str(found[0]) if found else ""
        case click.core.ParameterSource.ENVIRONMENT:
            return str(error.param.envvar)
    return ""


# Options that upstream has, too: its own parser takes these.
UPSTREAM = ("registry_path", "resume", "exit_on_error")


class PassThroughCommand(ConfiguredCommand):
    """A command whose line is taken apart by upstream's grammar before click sees it."""

    knows_every_key = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand click our options, and everything that is passed on behind a `--`."""
        if not args and not ctx.resilient_parsing:
            raise click.exceptions.NoArgsIsHelpError(ctx)
        if not ctx.resilient_parsing:
            args = self._in_order(args)
        return super().parse_args(ctx, args)

    def our_options(self) -> dict[str, int]:
        """Every spelling of an option that is ours alone, with its number of values."""
        return {
            spelling: 0 if param.is_flag else 1
            for param in self.params
            if isinstance(param, click.Option) and param.name not in UPSTREAM
            for spelling in (*param.opts, *param.secondary_opts)
        }

    def _in_order(self, args: list[str]) -> list[str]:
        found = split(args, self.our_options())
        line = list(found.ours)
        for path in found.registry_paths:
            line += ["--registry-path", path]
        for option, value in (("resume", found.resume), ("exit-on-error", found.exit_on_error)):
            if value is not None:
                line.append(f"--{option}" if value else f"--no-{option}")
        return [*line, "--", found.model, found.eval_set, *found.passed_through]


class SectionedCommand(click.Command):
    """A command whose help shows its options below several headings."""

    def __init__(self, *args: Any, sections: Mapping[str, str], **settings: Any) -> None:  # noqa: ANN401 - click's
        """Take what a command takes.

        Args:
            args: for click.
            sections: headings, each by the name of the first option below it.
            settings: for click.
        """
        super().__init__(*args, **settings)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        found: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            heading = self.sections.get(param.name or "", heading)
            if param is self.get_help_option(ctx):
                heading = "Other"
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record:
                found.setdefault(heading, []).append(record)
        for heading, records in found.items():
            with formatter.section(heading):
                formatter.write_dl(records)

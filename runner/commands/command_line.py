import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from click.core import ParameterSource

from runner.configuration import find_configuration, read_configuration
from runner.errors import RunnerError, UsageError, did_you_mean
from runner.parameters import Argument, Completion, Option, Parameter, call, parameters

# Options that upstream has, too: its own parser takes these.
UPSTREAM = ("registry_path", "resume", "exit_on_error")


class EvalsetCommand(click.Command):
    """A command whose options a configuration file may give.

    Attributes:
        parameters: what it takes.
        sections: headings of the help, each by the name of the first option below it.
        every_key: whether a key of the file that is no option of this command is an error.
    """

    every_key = False

    def __init__(
        self,
        name: str,
        of: Callable[..., object],
        callback: Callable[..., object],
        **more: Any,  # noqa: ANN401 - click's
    ) -> None:
        self.parameters = tuple(parameters(of))
        self.sections = {each.name: each.heading for each in self.parameters if each.heading}
        super().__init__(
            name, params=[_for_click(each) for each in self.parameters], callback=callback, **more
        )

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
                extra.setdefault("default_map", self.configured())
            except UsageError:
                if not {"-h", "--help"} & set(args):  # which says what would be right
                    raise
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.BadParameter as error:
            if source := _not_typed(error):
                raise UsageError(f"{source}: {error.format_message()}") from None
            raise

    def configured(self) -> dict[str, Any]:
        """Defaults for the options from `evalset.toml` or `[tool.evalset]`."""
        return {**read_configuration(Path.cwd(), self.parameters, every_key=self.every_key)}

    def our_options(self) -> dict[str, int]:
        """Every spelling of an option that is ours alone, with its number of values."""
        return {
            spelling: 0 if param.is_flag else 1
            for param in self.params
            if isinstance(param, click.Option) and param.name not in UPSTREAM
            for spelling in (*param.opts, *param.secondary_opts)
        }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them below their headings."""
        found: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            heading = self.sections.get(param.name or "", heading)
            if self.sections and param is self.get_help_option(ctx):
                heading = "Other"
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record:
                found.setdefault(heading, []).append(record)
        for heading, records in found.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class PassThroughCommand(EvalsetCommand):
    """A command whose line is taken apart by upstream's grammar before click sees it."""

    every_key = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand click our options, and everything that is passed on after a `--`."""
        if not args and not ctx.resilient_parsing:
            raise click.exceptions.NoArgsIsHelpError(ctx)
        if not ctx.resilient_parsing:
            from runner.plan.grammar import split

            found = split(args, self.our_options())
            args = list(found.ours)
            for path in found.registry_paths:
                args += ["--registry-path", path]
            for option, value in (("resume", found.resume), ("exit-on-error", found.exit_on_error)):
                if value is not None:
                    args.append(f"--{option}" if value else f"--no-{option}")
            args += ["--", found.model, found.eval_set, *found.passed_through]
        return super().parse_args(ctx, args)


def typed(context: click.Context, names: Iterable[str]) -> frozenset[str]:
    """Those of a command's parameters that its command line gives."""
    source = context.get_parameter_source
    return frozenset(name for name in names if source(name) is ParameterSource.COMMANDLINE)


def evalset_command(
    example: str,
    *,
    of: Callable[..., object] | None = None,
    kind: type[EvalsetCommand] = EvalsetCommand,
    group: click.Group | None = None,
    notes: str = "",
    **settings: Any,  # noqa: ANN401 - click's
) -> Callable[[Callable[..., object]], EvalsetCommand]:
    """Make a function a command that takes what the notes at its arguments say.

    Args:
        example: how it is called, for the help.
        of: a struct that says instead what it takes; the function then gets click's context.
        kind: of command.
        group: that it belongs to.
        notes: further paragraphs of the help, after the example.
        settings: for click.
    """

    def decorate(function: Callable[..., object]) -> EvalsetCommand:
        def called(**values: object) -> object:
            return function(click.get_current_context()) if of else call(function, values)

        made = kind(
            function.__name__,
            of or function,
            called,
            help=inspect.cleandoc(function.__doc__ or ""),
            epilog="\n\n".join(filter(None, (f"Example: {example}", notes))),
            **settings,
        )
        if group is not None:
            group.add_command(made)
        return made

    return decorate


def _for_click(parameter: Parameter) -> click.Parameter:
    note = parameter.note
    if isinstance(note, Argument):
        return click.Argument(
            [parameter.name],
            type=_type(parameter),
            required=parameter.required,
            default=None if parameter.required or parameter.multiple else parameter.default,
            nargs=-1 if parameter.multiple else 1,
            metavar=note.metavar,
            shell_complete=_completion(note),
        )
    spellings = note.names or (f"--{parameter.name.replace('_', '-')}",)
    if parameter.default is True:
        spellings = (f"{spellings[0]}/--no-{spellings[0][2:]}",)
    is_flag = parameter.type is bool
    default = parameter.default
    if parameter.required or parameter.multiple:
        default = None
    elif parameter.kind and default is not None:
        default = parameter.kind.show(default)
    return click.Option(
        [*spellings, parameter.name],
        type=None if is_flag else _type(parameter),
        is_flag=is_flag,
        multiple=parameter.multiple,
        required=parameter.required,
        default=default,
        show_default=default is not None and default is not False,
        metavar=parameter.kind.metavar if parameter.kind else None,
        envvar=f"EVALSET_{parameter.name.upper()}" if note.configurable else None,
        help=note.help + (f"  [default: {note.default}]" if note.default else ""),
        shell_complete=_completion(note),
    )


def _completion(
    note: Option | Argument,
) -> Callable[[click.Context, click.Parameter, str], list[str]] | None:
    what = note.complete
    if what is None:
        return None

    def complete(_: click.Context, __: click.Parameter, beginning: str) -> list[str]:
        return names_known(what, beginning)

    return complete


def names_known(what: Completion, beginning: str) -> list[str]:
    """The names that a shell offers after pressing Tab, without asking the engine."""
    from runner.host import this_host
    from runner.registry.entries import (
        Registry,
        RegistryCache,
        merge_registries,
        parse_registry,
        read_folder,
    )

    host = this_host()
    known = RegistryCache(host.cache).newest() or Registry()
    for folder in (host.home / ".evals", Path("registry")):
        if folder.is_dir():
            try:
                known = merge_registries([known, parse_registry(read_folder(folder))])
            except RunnerError:
                continue  # pressing Tab is no time for an error
    names = {
        "model": ["dummy", *known.completion_fns, *known.solvers],
        "eval_set": known.eval_sets,
        "eval": known.evals,
    }
    return [name for name in names[what] if name.startswith(beginning)]


def _type(parameter: Parameter) -> click.ParamType | Callable[[str], object]:  # type: ignore[type-arg] # generic in newer ones
    note = parameter.note
    if get_origin(parameter.type) is Literal:
        return _OneOf(get_args(parameter.type))
    if isinstance(note, Argument):
        return click.UNPROCESSED if parameter.multiple else click.STRING
    if note.kind and note.kind.read:
        return _reader(note.kind.read)
    if note.kind and note.kind.is_path:
        return click.Path(path_type=parameter.type)
    if parameter.type in {int, float}:
        least, most = (
            None if limit is None else parameter.type(limit) for limit in (note.least, note.most)
        )
        return (_Whole if parameter.type is int else click.FloatRange)(least, most)
    return click.STRING


class _Whole(click.IntRange):
    """A whole number within limits; what is none is called so, and not a range."""

    name = "integer"


def _reader(read: Callable[[str], object]) -> Callable[[object], object]:
    def convert(value: object) -> object:
        try:
            return read(str(value))  # a configuration file may have a number
        except UsageError as error:
            raise click.BadParameter(str(error)) from None

    return convert


class _OneOf(click.Choice):  # type: ignore[type-arg] # generic in newer ones
    """A choice that knows what a mistyped word was to be."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        """Say what there is, and what is close."""
        text = super().get_invalid_choice_message(value, ctx)
        hint = did_you_mean(str(value), self.choices)
        return f"{text.removesuffix('.')}; {hint}" if hint else text


def _not_typed(error: click.BadParameter) -> str:
    """Where a bad value stands that is not on the command line; empty for one that is."""
    if error.ctx is None or error.param is None or error.param.name is None:
        return ""
    match error.ctx.get_parameter_source(error.param.name):
        case ParameterSource.DEFAULT_MAP:
            found = find_configuration(Path.cwd())
            return str(found[0]) if found else ""
        case ParameterSource.ENVIRONMENT:
            return str(error.param.envvar)
    return ""

import contextlib
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runner.commands.group import Group
from runner.errors import RunnerError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# In the order of a run's life. A module is imported only when its command is asked for, which keeps
# `evalset --help` fast.
COMMANDS = (
    "run",
    "status",
    "answers",
    "verify",
    "report",
    "view",
    "list",
    "logs",
    "snapshot",
    "reset",
    "clean",
    "matrix",
    "new",
    "image",
    "data",
    "doctor",
)


class LazyGroup(Group):
    """A group whose commands live in modules of their own, imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"runner.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def purpose(self, name: str) -> str:
        """What a command is for, from the text of its module, which is not imported."""
        text = (Path(__file__).parent / f"commands/{name}.py").read_text(encoding="utf-8")
        docstring = text.partition("\ndef command(")[2].partition('"""')[2]
        return docstring.partition("\n")[0].removesuffix('"""')


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's signature
    if asked and not ctx.resilient_parsing:
        from runner import __version__

        click.echo(f"evalset {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: evalset run dummy test-basic --jobs 4   # dummy needs no API key",
)
@click.option(
    "--debug", is_flag=True, envvar="EVALSET_DEBUG", help="Show tracebacks instead of one line."
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def evalset(*, debug: bool) -> None:
    """Run every eval of an openai/evals eval set, each in its own Docker container.

    Finished evals are recorded immediately: whatever stops a run, the next continues from there.
    """
    del debug  # `run_program` looks for it, because parsing may be what fails


def main(argv: Sequence[str] | None = None) -> None:
    """The program `evalset`."""
    # Starting makes many objects and hardly any garbage: looking for it costs a twentieth.
    gc.set_threshold(50_000)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = arguments[:1] == ["--debug"]
    run_program(
        lambda: evalset.main(arguments, prog_name="evalset", standalone_mode=False), debug=debug
    )


def run_program(body: Callable[[], Any], *, debug: bool = False) -> NoReturn:
    """Run what a program does: errors become one line on stderr and an exit code.

    Exit codes: 0 all finished, 1 some eval failed, 2 usage or configuration, 3 environment,
    4 all finished but not pushed, 75 a budget left evals to a later run, 130 and 143 on SIGINT and
    SIGTERM, 141 where nobody reads what is printed any more, whatever else is true.

    Args:
        body: returns the exit code; anything but a number is 0.
        debug: whether our own errors show where they come from.
    """
    _make_writable()
    try:
        code = body()
    except RunnerError as error:
        if debug or os.environ.get("EVALSET_DEBUG", "").lower() in {"1", "true", "yes", "on"}:
            raise
        code = _say_error(error)
    except click.exceptions.NoArgsIsHelpError as error:
        code = _say(error.format_message(), error.exit_code)
    except click.UsageError as error:
        see = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        code = _say(f"Error: {_what(error)}{see}", error.exit_code)
    except click.ClickException as error:
        code = _say(f"Error: {error.format_message()}", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = _say("Interrupted.", 130)
    except BrokenPipeError:
        code = 141
    gc.freeze()  # at its end Python would look through all that was imported for garbage
    ended = code if isinstance(code, int) else 0
    sys.exit(ended if all_read() else 141)


class _Descriptor(io.FileIO):
    """A descriptor whose errors all say the same: nobody takes what is printed."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write; an error with a number would make click exit with 1, as if an eval had failed."""
        try:
            return super().write(data)
        except OSError as error:
            raise BrokenPipeError(str(error)) from error


def _make_writable() -> None:
    """See to it that what is printed has a place, and that no sign in it is an error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed, as `>&-` does
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as this runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.flush()
            again = io.TextIOWrapper(
                io.BufferedWriter(_Descriptor(stream.fileno(), "w", closefd=False)),
                encoding=stream.encoding,
                errors="replace",  # a terminal that cannot show a sign stops no run
                line_buffering=stream.line_buffering or stream.write_through,
            )
            setattr(sys, name, again)


def _what(error: click.UsageError) -> str:
    """An error's message; of a mistyped option, what is close, in the form of our own messages."""
    if isinstance(error, click.NoSuchOption):
        hint = did_you_mean(error.option_name, error.possibilities or ())
        return f"No such option {error.option_name!r}{hint and f'; {hint}'}"
    return error.format_message()


def _say_error(error: RunnerError) -> int:
    from runner.report.text import plain_line

    for line in (*getattr(error, "__notes__", ()), f"Error: {error}"):
        _say(plain_line(line), error.exit_code)
    return error.exit_code


def _say(line: str, code: int) -> int:
    with contextlib.suppress(OSError):  # which `all_read` finds out
        click.echo(line, err=True)
    return code


def all_read() -> bool:
    """Write what is still to be written; what cannot be written goes nowhere.

    Only a reader who has gone, as `head` has, is not worth a word.
    """
    read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            read = False
            cause = error.__cause__
            if stream is sys.stdout and isinstance(cause, OSError) and cause.errno != errno.EPIPE:
                _say(f"Error: the output cannot be written: {cause.strerror}", 141)
    return read

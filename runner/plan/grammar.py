import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Never

import msgspec

from runner.errors import UsageError
from runner.secrets import holds_secret

_HELP = "`evalset run --help` shows the form"


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """The command line of `evalset run`, taken apart.

    MODEL and EVAL_SET are empty if help was asked for before them; a switch is None if the command
    line does not have it.

    Attributes:
        ours: the options that upstream does not have, with their values, in order.
        passed_through: what each command gets, in order.
    """

    model: str
    eval_set: str
    registry_paths: tuple[str, ...]
    resume: bool | None
    exit_on_error: bool | None
    ours: tuple[str, ...]
    passed_through: tuple[str, ...]


def get_parser() -> argparse.ArgumentParser:
    """The parser of the drop-in, with upstream's names and defaults; use `parse_known_args`."""
    parser = argparse.ArgumentParser(
        description="Run every eval of an eval set, each in its own Docker container."
    )
    _add_arguments(parser)
    return parser


def split(argv: Sequence[str], ours: Mapping[str, int]) -> Split:
    """Take the command line of `evalset run` apart, as the drop-in does with its own.

    Our own options count only in full, as `--jobs 3` or `--jobs=3`, and only before a `--`.
    Everything else goes through the drop-in's parser, so that both programs agree: a registry
    path may also be spelled `--registry-path` here, and abbreviations are upstream's own. What
    follows `--` is passed on, but fills MODEL and EVAL_SET if those are still missing.
    The `--` itself is dropped, as in the drop-in (`without_dashes`).

    Args:
        argv: what follows `evalset run`.
        ours: how many values each of our options takes, 0 or 1, by its spelling.

    Raises:
        UsageError: a name is missing, or an option is ambiguous or lacks its value.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    taken, rest = _take_ours(argv[:end], ours)
    parser = _EvalsetParser(add_help=False)
    parser.add_argument("-h", "--help", action=_AskForHelp)
    _add_arguments(parser)
    parser.set_defaults(resume=None, exit_on_error=None, model="", eval_set="")
    found = argparse.Namespace()
    try:
        _, passed_through = parser.parse_known_args([*rest, *argv[end:]], found)
    except _HelpAskedForError:
        taken, passed_through = [*taken, "--help"], []
    return Split(
        model=found.model,
        eval_set=found.eval_set,
        registry_paths=tuple(found.registry_path or ()),
        resume=found.resume,
        exit_on_error=found.exit_on_error,
        ours=tuple(taken),
        passed_through=without_dashes(argv, passed_through),
    )


def without_dashes(argv: Sequence[str], passed_through: Sequence[str]) -> tuple[str, ...]:
    """Drop the first `--` of a command line from what argparse says is passed through.

    argparse itself drops it directly after MODEL EVAL_SET, but keeps it after an option. Upstream
    passes that one on, and `oaieval` then refuses everything after it.
    """
    kept = list(passed_through)
    if "--" in argv:
        after = list(argv[argv.index("--") + 1 :])
        if kept.count("--") > after.count("--"):
            kept.remove("--")
    return tuple(kept)


def _take_ours(argv: Sequence[str], ours: Mapping[str, int]) -> tuple[list[str], list[str]]:
    taken: list[str] = []
    rest: list[str] = []
    tokens = iter(argv)
    for token in tokens:
        option, equals, value = token.partition("=")
        if option == "--registry-path":
            rest.append(f"--registry_path{equals}{value}")
        elif not option.startswith("-") or option not in ours:
            rest.append(token)
        else:
            taken.append(token)
            if ours[option] and not equals:
                following = next(tokens, None)
                if following is None:
                    raise UsageError(f"option {token} needs a value", f"{_HELP}")
                taken.append(following)
    return taken, rest


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model, completion function or solver")
    parser.add_argument("eval_set", help="an eval set of the registry")
    parser.add_argument(
        "--registry_path", action="append", help="a further registry folder; may be repeated"
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="skip the evals that are finished",
    )
    parser.add_argument(
        "--exit-on-error",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start no new eval once one has failed",
    )


class _HelpAskedForError(Exception):
    """Ends parsing where argparse would print its help, because click prints ours."""


class _AskForHelp(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:  # noqa: ANN401 - any value
        super().__init__(option_strings, dest, nargs=0)

    def __call__(self, *_: object, **__: object) -> Never:
        raise _HelpAskedForError


class _EvalsetParser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        raise UsageError(f"{message}", f"{_HELP}")


# what oaieval 3.0.1 takes; its `--record_path` is refused
_SWITCHES = ("cache", "visible", "debug", "local-run", "http-run", "dry-run", "dry-run-logging")
OAIEVAL = frozenset(
    {
        "--extra_eval_params",
        "--completion_args",
        "--max_samples",
        "--seed",
        "--user",
        "--log_to_file",
        "--registry_path",
        "--http-run-url",
        "--http-batch-size",
        "--http-fail-percent-threshold",
        "--help",
        *(f"--{no}{switch}" for switch in _SWITCHES for no in ("", "no-")),
    }
)

# Of its `--seed`, unless that is given.
_SEED = "20220722"

_RECORD_PATH = "--record_path"
# a shorter one could also mean `--registry_path`, and oaieval itself refuses it
_LEAST_RECORD_PATH = "--rec"


def check_passed_through(
    args: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    ours: Collection[str] = (),
) -> list[str]:
    """Look for arguments that must not, or should not, be passed to every command.

    Args:
        variables: the host's environment variables that containers get, by name.
        ours: spellings of the options that are not passed through.

    Returns:
        Warnings, one line each, without any value.

    Raises:
        UsageError: an option would make evals overwrite one another's log, or holds a secret.
    """
    warnings = []
    for index, token in enumerate(args):
        option, equals, _ = token.partition("=")
        if option.startswith(_LEAST_RECORD_PATH) and _RECORD_PATH.startswith(option):
            raise UsageError(
                "--record_path cannot be passed through: every eval would write to that one file, "
                "over the others' records",
                "leave it out, each eval's log is kept below evallogs/",
            )
        if holds_secret(token, args[index - 1] if index else "", variables or {}):
            name = f" (`{option}`)" if equals and option.startswith("-") else ""
            raise UsageError(
                f"passed-through argument {index + 1}{name} looks like it holds a secret, "
                "which progress files and logs would keep",
                "put it into an environment variable and pass that by name, with `-e NAME`",
            )
        if option == "--registry_path":
            warnings.append(
                "`--registry_path` after `--` is only passed on, and no container has that folder; "
                "put it before the `--`"
            )
        elif hint := _slip(option, ours):
            warnings.append(hint)
    return warnings


def _slip(option: str, ours: Collection[str]) -> str:
    """A warning about an option that is probably mistyped, ours or oaieval's; empty for none."""
    if not option.startswith("--") or option in ours:
        return ""
    cut = [known for known in (*OAIEVAL, _RECORD_PATH) if known.startswith(option)]
    if len(cut) == 1 and option not in OAIEVAL:
        # passed on as it is typed, because upstream's progress files have it so
        return (
            f"oaieval takes `{option}` for `{cut[0]}`, but it counts as another argument than that "
            f"here; write `{cut[0]}`"
        )
    if cut:  # of several, oaieval says itself that it is ambiguous
        return ""
    if known := oaievals_spelling(option, ours):
        return f"`{option}` is passed on to every eval; oaieval's is `{known}`"
    import difflib  # noqa: PLC0415 - few command lines get here

    # `--dry_run` is as far from `--dry-run` as a typing error, and the most likely one
    close = difflib.get_close_matches(option, ours, cutoff=0.8)
    close += [known for known in ours if len(option) > len("--x") and known.startswith(option)]
    if not close:
        return ""
    return f"`{option}` is passed on to every eval; did you mean `{close[0]}`?"


def oaievals_spelling(option: str, ours: Collection[str] = ()) -> str:
    """The option of oaieval that differs in hyphens and underscores alone; empty for none.

    Its parser, argparse, distinguishes these.
    """
    for known in OAIEVAL.difference(ours, {option}):
        if option.replace("_", "-") == known.replace("_", "-"):
            return known
    return ""


def seed_of(args: Sequence[str]) -> str:
    """The seed that oaieval takes from passed-through arguments, in which options may be cut."""
    seed = _SEED
    for index, token in enumerate(args):
        option, equals, value = token.partition("=")
        if option.startswith("--s") and "--seed".startswith(option):
            seed = value if equals else "".join(args[index + 1 : index + 2])
    return seed

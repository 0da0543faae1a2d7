from collections.abc import Collection, Mapping, Sequence

from runner.errors import UsageError
from runner.plan.secret import holds_secret

# what oaieval 3.0.1 takes; its `--record_path` is refused
OAIEVAL = frozenset(
    {
        "--extra_eval_params",
        "--completion_args",
        "--max_samples",
        "--cache",
        "--no-cache",
        "--visible",
        "--no-visible",
        "--seed",
        "--user",
        "--log_to_file",
        "--registry_path",
        "--debug",
        "--no-debug",
        "--local-run",
        "--no-local-run",
        "--http-run",
        "--no-http-run",
        "--http-run-url",
        "--http-batch-size",
        "--http-fail-percent-threshold",
        "--dry-run",
        "--no-dry-run",
        "--dry-run-logging",
        "--no-dry-run-logging",
        "--help",
    }
)
_RECORD_PATH = "--record_path"
# a shorter one could also be `--registry_path`, and oaieval refuses it itself
_LEAST_RECORD_PATH = "--rec"


def check_passed_through(
    args: Sequence[str],
    *,
    handed_in: Mapping[str, str] | None = None,
    ours: Collection[str] = (),
) -> list[str]:
    """Look for what must not, or should not, go to every command.

    Args:
        args: what is passed through.
        handed_in: the host's environment variables that containers get, by name.
        ours: spellings of the options that are not passed through.

    Returns:
        One warning a line, without any value.

    Raises:
        UsageError: an option would make evals overwrite one another's log, or holds a secret.
    """
    warnings = []
    for index, token in enumerate(args):
        option = token.partition("=")[0]
        if option.startswith(_LEAST_RECORD_PATH) and _RECORD_PATH.startswith(option):
            raise UsageError(
                "--record_path cannot be passed through: every eval would write to that one file, "
                "over the others' records; leave it out, each eval's log is kept below evallogs/"
            )
        if holds_secret(token, args[index - 1] if index else "", handed_in or {}):
            raise UsageError(
                f"passed-through argument {index + 1}{_name(token)} looks like it holds a secret, "
                "which progress files and logs would keep; put it into an environment variable "
                "and pass that by name, with `-e NAME`"
            )
        if option == "--registry_path":
            warnings.append(
                "`--registry_path` after `--` is only passed on, and no container has that folder; "
                "put it before the `--`"
            )
        elif hint := _slip(option, ours):
            warnings.append(hint)
    return warnings


def _name(token: str) -> str:
    """Give an option's name for a message, never a value."""
    option, equals, _ = token.partition("=")
    return f" (`{option}`)" if equals and option.startswith("-") else ""


def _slip(option: str, ours: Collection[str]) -> str:
    """Give a warning for an option that is probably a mistyped one of ours, or nothing."""
    if not option.startswith("--") or option in ours:
        return ""
    if any(known.startswith(option) for known in OAIEVAL):
        return ""
    # argparse, which oaieval has, takes hyphens and underscores for different things
    for known in OAIEVAL.difference(ours):
        if option.replace("_", "-") == known.replace("_", "-"):
            return f"`{option}` is passed on to every eval; oaieval's is `{known}`"
    import difflib  # noqa: PLC0415 - few command lines get here

    # `--dry_run` is as far from `--dry-run` as a typing error, and the most likely one
    close = difflib.get_close_matches(option, ours, cutoff=0.8)
    close += [known for known in ours if len(option) > len("--x") and known.startswith(option)]
    if not close:
        return ""
    return f"`{option}` is passed on to every eval; did you mean `{close[0]}`?"

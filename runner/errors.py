from collections.abc import Iterable

# Exit status of a run whose time or money is used up: EX_TEMPFAIL of sysexits.h, try again later.
OUT_OF_TIME = 75


class RunnerError(Exception):
    """The runner cannot continue. The message is one line: what happened, and what to do next.

    Its notes are warnings that may explain it, each a line that is shown before it.

    Attributes:
        exit_code: the process's exit status when this reaches the command line.
        what: what happened.
        cure: what to do next; empty where what happened says it.
    """

    exit_code = 1

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(f"{what}; {cure}" if cure else what)
        self.what = what
        self.cure = cure


class UsageError(RunnerError):
    """The command line, a configuration file or a registry asks for what cannot be done."""

    exit_code = 2


class EnvironmentFault(RunnerError):
    """The engine, the image, the disk or the network does not do its part."""

    exit_code = 3


class NotPushed(RunnerError):
    """Every eval is finished, but the last snapshot is on this host only."""

    exit_code = 4


class LockHeld(EnvironmentFault):
    """A live run works on the same files."""


class Superseded(EnvironmentFault):
    """A newer run has taken over what this one has on hosts."""


class NobodyReads(BrokenPipeError):
    """A run has ended and is on record, but what it prints reaches nobody.

    Attributes:
        exit_code: what the run ended with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give `did you mean ...?` with the known names closest to a wrong one, or nothing."""
    import difflib  # noqa: PLC0415 - only a wrong name pays for it

    names = list(known)
    close = difflib.get_close_matches(name, names)
    # A name cut short is far from it by difflib's measure, and near to a person's eye.
    if name:
        close += [other for other in names if other.startswith(name) and other not in close]
    if not close:
        return ""
    return "did you mean " + " or ".join(f"`{other}`" for other in close[:3]) + "?"

# Exit status of a run that its time budget ended: sysexits.h's EX_TEMPFAIL, which says go on later.
OUT_OF_TIME = 75


class RunnerError(Exception):
    """The runner cannot go on. The message is one line: what happened, and what to do next.

    Its notes are warnings that may explain it, each a line that is shown before it.

    Attributes:
        exit_code: the process's exit status when this reaches the command line.
    """

    exit_code = 1


class UsageError(RunnerError):
    """The command line, a configuration file or a registry asks for what cannot be done."""

    exit_code = 2


class EnvironmentFault(RunnerError):
    """The engine, the image, the disk or the network does not do its part."""

    exit_code = 3


class NotPushed(RunnerError):
    """Every eval has passed, but the last snapshot is on this host only."""

    exit_code = 4


class LockHeld(EnvironmentFault):
    """A live run works on the same files."""

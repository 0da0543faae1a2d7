import msgspec

from runner.job import ContainerSettings, Fault, Result

# SIGKILL and SIGTERM, where neither the runner sent them nor the memory limit.
KILLED = {137, 143}
# What an engine that was itself killed says of a container whose end it did not see.
UNKNOWN = 255


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended, as seen from outside.

    Attributes:
        exit_code: of its main process; None when it never ran or is gone.
        oom_killed: whether the kernel killed a process of it for the memory limit.
        timed_out: whether the runner stopped it for its time limit.
        stopped: why the runner stopped it on request; None when it did not.
        unwatched: whether the engine was away, or no run looked, while it ran.
        reported: whether its log has a final report.
        lost: why nothing is known of its end; None when it is known.
    """

    exit_code: int | None = None
    oom_killed: bool = False
    timed_out: bool = False
    stopped: str | None = None
    unwatched: bool = False
    reported: bool = False
    lost: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What an ending means."""

    result: Result
    fault: Fault | None
    reason: str


def judge(ending: Ending, settings: ContainerSettings) -> Verdict:  # noqa: PLR0911 - a way each
    """Success is exit code 0 and nothing else; for the rest, say who is to blame and why."""
    if ending.lost is not None:
        return Verdict(Result.LOST, Fault.ENVIRONMENT, ending.lost)
    if ending.timed_out:
        reason = f"ran longer than its time limit of {settings.timeout:g} s (--timeout)"
        return Verdict(Result.FAILURE, Fault.EVAL, reason)
    if ending.exit_code == 0 and (ending.stopped is None or ending.reported):
        return Verdict(Result.SUCCESS, None, "")
    if ending.stopped is not None:
        return Verdict(Result.LOST, Fault.ENVIRONMENT, ending.stopped)
    if ending.oom_killed:
        limit = f" of {settings.memory / 2**20:.0f} MiB" if settings.memory else ""
        reason = f"needed more memory than its limit{limit} (raise it with --memory)"
        return Verdict(Result.FAILURE, Fault.EVAL, reason)
    if ending.exit_code in KILLED or (ending.exit_code == UNKNOWN and ending.unwatched):
        reason = f"was ended from outside, by the engine or a person (status {ending.exit_code})"
        return Verdict(Result.LOST, Fault.ENVIRONMENT, reason)
    return Verdict(Result.FAILURE, Fault.EVAL, f"exited with status {ending.exit_code}")

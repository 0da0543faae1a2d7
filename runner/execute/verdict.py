import msgspec

from runner.job import ContainerSettings, Fault, Result

# SIGKILL and SIGTERM, where neither the runner sent them nor the memory limit.
KILLED = {137, 143}
# SIGXFSZ: a file was to become larger than `--tmp-limit`.
TOO_LARGE_A_FILE = 153
# What an engine that was itself killed says of a container whose end it did not see.
UNKNOWN = 255


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Why the runner ends a container before its time.

    Attributes:
        why: one line.
        fault: whose: the eval's where it went beyond a limit.
    """

    why: str
    fault: Fault = Fault.ENVIRONMENT


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended, as seen from outside.

    Attributes:
        exit_code: of its main process; None when it never ran, is gone, or does not end.
        oom_killed: whether the kernel killed a process of it for the memory limit.
        timed_out: whether the runner stopped it for its time limit.
        unkillable: whether it still runs all the same.
        cut: why the runner ended it otherwise; None when it did not.
        absent: whether the engine was away while it ran.
        unwatched: whether no run looked while it ran.
        reported: whether its log has a final report.
        lost: why nothing is known of its end; None when it is known.
    """

    exit_code: int | None = None
    oom_killed: bool = False
    timed_out: bool = False
    unkillable: bool = False
    cut: Cut | None = None
    absent: bool = False
    unwatched: bool = False
    reported: bool = False
    lost: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What an ending means."""

    result: Result
    fault: Fault | None
    reason: str


def judge(ending: Ending, settings: ContainerSettings) -> Verdict:
    """Success is exit code 0 and nothing else; for the rest, say who is to blame and why."""
    if ending.lost is not None:
        return _lost(ending.lost)
    asked_to_end = ending.timed_out or ending.cut is not None
    if ending.exit_code == 0 and (ending.reported or not asked_to_end):
        return Verdict(Result.SUCCESS, None, "")
    if ending.timed_out:
        return _failure(_out_of_time(ending, settings))
    if ending.cut is not None:
        blame = _lost if ending.cut.fault is Fault.ENVIRONMENT else _failure
        return blame(ending.cut.why)
    return _ended_badly(ending, settings)


def _ended_badly(ending: Ending, settings: ContainerSettings) -> Verdict:
    if ending.oom_killed:
        limit = f" of {settings.memory / 2**20:.0f} MiB" if settings.memory else ""
        return _failure(f"needed more memory than its limit{limit} (raise it with --memory)")
    if ending.absent:  # an engine that is stopped asks its containers to end
        return _lost(f"ended with status {ending.exit_code} while the engine went away")
    if ending.exit_code in KILLED or (ending.exit_code == UNKNOWN and ending.unwatched):
        return _lost(
            f"was ended from outside, by the engine or a person (status {ending.exit_code})"
        )
    if ending.exit_code == TOO_LARGE_A_FILE:
        return _failure(
            f"exited with status {ending.exit_code}: a file larger than --tmp-limit "
            f"({settings.tmp_limit / 2**20:.0f} MiB; raise it)"
        )
    return _failure(f"exited with status {ending.exit_code}")


def _out_of_time(ending: Ending, settings: ContainerSettings) -> str:
    reason = f"ran longer than its time limit of {settings.timeout:g} s (--timeout)"
    if ending.unkillable:
        reason += (
            ", and cannot be killed: its container is still there; if the next run cannot remove "
            "it either, restart the engine or the host"
        )
    return reason


def _failure(reason: str) -> Verdict:
    return Verdict(Result.FAILURE, Fault.EVAL, reason)


def _lost(reason: str) -> Verdict:
    return Verdict(Result.LOST, Fault.ENVIRONMENT, reason)

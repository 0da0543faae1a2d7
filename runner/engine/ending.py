import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec

from runner.engine import docker_py
from runner.engine.container import Container, ContainerState
from runner.engine.engine import EngineWait, explain
from runner.errors import EnvironmentFault
from runner.gateway.messages import Account
from runner.gateway.prices import RAISE_BUDGET
from runner.model import ContainerSettings, Fault, Result

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> str:
    """The time, UTC, RFC 3339 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp() -> str:
    """This moment on a clock that nobody sets, for another process of this host to compare."""
    return f"{_boot()} {time.monotonic():.3f}"


def since(stamped: str) -> float | None:
    """Seconds since a moment; None if it was before the host's last start, or on another host."""
    boot, _, moment = stamped.partition(" ")
    try:
        passed = time.monotonic() - float(moment)
    except ValueError:
        return None
    return passed if boot == _boot() and passed >= 0 else None


@cache
def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:  # not on Linux
        return "unknown"


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
        state: as the engine knows it; None where it knows nothing.
        account: what it did at the gateway; None where it went without.
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
    state: ContainerState | None = None
    account: Account | None = None


class Judgement(msgspec.Struct, frozen=True):
    """What an ending means."""

    result: Result
    fault: Fault | None
    reason: str


def judge(ending: Ending, settings: ContainerSettings) -> Judgement:
    """Success is exit code 0 and nothing else; for the rest, say who is to blame and why."""
    if ending.lost is not None:
        return _lost(ending.lost)
    if ending.account is not None and ending.account.stopped:
        # Whatever it made of that: samples without an answer are no result.
        # How to raise a budget is said once, by the run.
        return _lost(ending.account.stopped.removesuffix(f"; {RAISE_BUDGET}"))
    asked_to_end = ending.timed_out or ending.cut is not None
    if ending.exit_code == 0 and (ending.reported or not asked_to_end):
        return Judgement(Result.SUCCESS, None, "")
    if ending.timed_out:
        return _failure(_out_of_time(ending, settings))
    if ending.cut is not None:
        blame = _lost if ending.cut.fault is Fault.ENVIRONMENT else _failure
        return blame(ending.cut.why)
    return _ended_badly(ending, settings)


def _ended_badly(ending: Ending, settings: ContainerSettings) -> Judgement:
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


def _failure(reason: str) -> Judgement:
    return Judgement(Result.FAILURE, Fault.EVAL, reason)


def _lost(reason: str) -> Judgement:
    return Judgement(Result.LOST, Fault.ENVIRONMENT, reason)


# A wait that breaks off within this many seconds although the engine answers is refused; so many of
# them in a row, with growing pauses, are its last word.
REFUSED_WITHIN = 5

REFUSALS = 8


def await_end(
    container: Container,
    seconds: float,
    engine_wait: EngineWait,
    *,
    absences: int,
    unwatched: bool = False,
    queued: Callable[[], float] = lambda: 0.0,
) -> Ending:
    """Wait for a container's end, and stop it when its time is over.

    `absences` of the engine had been noticed when the attempt began; `unwatched` is one that ran
    while no run looked; `queued` tells how many seconds it has waited for its turn at a provider,
    which do not count.

    Raises:
        EnvironmentFault: the engine went away and did not come back, or cannot tell.
    """
    try:
        timed_out = _wait(container, seconds, engine_wait, queued)
        if timed_out and not engine_wait.retry(container.stop):
            return Ending(timed_out=True, unkillable=True)
        state = engine_wait.retry(container.state)
    except docker_py.NotFound:
        return Ending(lost="its container is gone: something other than the runner removed it")
    except docker_py.ERRORS as error:
        # Nothing is known of its end, so it is neither recorded nor removed.
        raise EnvironmentFault(explain(error), "the next run takes over what runs") from error
    if state.started_at is None:  # the engine gives it exit code 0
        return Ending(lost="its container never started", state=state)
    return Ending(
        exit_code=state.exit_code,
        oom_killed=state.oom_killed,
        timed_out=timed_out,
        absent=engine_wait.absences != absences,
        unwatched=unwatched,
        state=state,
    )


def _wait(
    container: Container, seconds: float, engine_wait: EngineWait, queued: Callable[[], float]
) -> bool:
    """Wait as `Container.wait`, through absences of the engine, which count as time passed.

    Returns:
        Whether the time is over.
    """
    end = time.monotonic() + seconds
    granted = 0.0
    refused = 0
    while True:
        began = time.monotonic()
        try:
            if container.wait(end - began):
                return False
            more = queued() - granted
            if more <= 0:
                return True
            granted += more
            end += more
        except docker_py.RequestException as error:
            refused = refused + 1 if time.monotonic() - began < REFUSED_WITHIN else 1
            if engine_wait.wait(error):
                refused = 0
            elif refused > REFUSALS:
                raise
            else:
                time.sleep(refused)

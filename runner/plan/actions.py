from collections.abc import Collection, Mapping

import msgspec


class StartAttempt(msgspec.Struct, frozen=True):
    """Start an attempt; a host that has it already does nothing."""

    host: str
    job: str
    attempt: str


class Record(msgspec.Struct, frozen=True):
    """Record the outcome of an attempt, then tell `recorded` or `not_recorded`.

    Attributes:
        again: whether the job continues in another attempt.
    """

    attempt: str
    again: bool


class RecordLost(msgspec.Struct, frozen=True):
    """Record an attempt as lost, then tell `recorded` or `not_recorded`; `again` as in `Record`."""

    host: str
    job: str
    attempt: str
    again: bool


class SettleAttempt(msgspec.Struct, frozen=True):
    """Let the host delete what it holds of an attempt, because it is on record."""

    host: str
    attempt: str


class EndAttempt(msgspec.Struct, frozen=True):
    """End an attempt that may still run, and settle it, because no outcome of it is wanted."""

    host: str
    attempt: str


class AllAway(msgspec.Struct, frozen=True):
    """No host has been there for too long; `since` when, in seconds.

    Nothing more starts, and what the hosts have is left to the next run.
    """

    since: float


class OutOfTime(msgspec.Struct, frozen=True):
    """So many jobs do not fit into the time that remains, and are left to the next run."""

    jobs: int


class AllIdle(msgspec.Struct, frozen=True):
    """Nothing runs and nothing will start; told once."""


Action = (
    StartAttempt | Record | RecordLost | SettleAttempt | EndAttempt | AllAway | OutOfTime | AllIdle
)


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """What earlier runs of the same progress directory left.

    Attributes:
        done: keys of jobs that are finished.
        started: host and job of attempts that were started and are not on record, by id. They count
            as running on a host that is away.
    """

    done: Collection[str] = ()
    started: Mapping[str, tuple[str, str]] = {}

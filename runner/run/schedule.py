import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import msgspec

from runner.engine.live import LiveContainer
from runner.engine.run_facts import RunFacts
from runner.model import Attempt, Job, Problem
from runner.plan.cutoffs import TimeBudget
from runner.plan.plan import Plan
from runner.report.display import HostsAway, HostsBack
from runner.secrets import Mask

# Seconds before the first retry, and the longest pause; each pause is about twice the one before.
FIRST_PAUSE = 1
LONGEST_PAUSE = 60


def pause_before(retry: int) -> float:
    """Seconds before a retry of this number, from 0."""
    most: float = min(FIRST_PAUSE * 2**retry, LONGEST_PAUSE)
    return most * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, hides nothing


class Started(msgspec.Struct, frozen=True):
    """A container runs.

    Attributes:
        host: that it runs on, of a run with several.
    """

    job: Job
    attempt: str
    container: str
    host: str = ""


class Ended(msgspec.Struct, frozen=True):
    """An attempt ended; its container is kept until `recorded` is set.

    Attributes:
        again: whether the job gets another attempt.
        recorded: gets a result once the outcome is on disk, or the exception that prevented it.
    """

    outcome: Attempt
    again: bool
    recorded: Future[None]


class Broken(msgspec.Struct, frozen=True):
    """A worker met an error that ends the run."""

    error: BaseException


class Signalled(msgspec.Struct, frozen=True):
    """The process got a signal."""

    number: int


class Told(msgspec.Struct, frozen=True):
    """Something to tell people."""

    text: str


class Barred(msgspec.Struct, frozen=True):
    """No request to a provider can succeed any more; the text is one line."""

    kind: Problem
    text: str


class Unfit(msgspec.Struct, frozen=True):
    """Jobs do not fit into what remains of the time budget; put on the queue once."""

    jobs: int
    remaining: float


class Idle(msgspec.Struct, frozen=True):
    """The last worker has nothing more to do: nothing runs and nothing will start."""


Event = Started | Ended | Broken | Signalled | Told | Barred | Unfit | HostsAway | HostsBack | Idle


class Schedule(Protocol):
    """Runs jobs, on this host or elsewhere, and tells of each on one queue.

    It records nothing: the reader of the queue does, and tells it when that is done. With a time
    budget, a job that does not fit into the rest of it lets later jobs go first.

    Attributes:
        mask: removes values of variables from what is shown.
        budget: the run's time; None for no limit.
    """

    events: SimpleQueue[Event]
    mask: Mask
    budget: TimeBudget | None

    @property
    def out_of_time(self) -> bool:
        """Whether a job was left out because it did not fit."""

    @property
    def taken(self) -> int:
        """How many slots are in use."""

    def start(self) -> None:
        """Start the first evals."""

    def stop_starting(self) -> int:
        """Start nothing more; return how many jobs the first call has left out."""

    def pause(self, *, paused: bool) -> None:
        """Start nothing for a while, or start again; what runs continues."""

    def under_way(self) -> Sequence[LiveContainer]:
        """The containers of attempts under way."""

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """Signal every running container to end, or kill it; their attempts count as lost."""

    def follow(self, container: str, tell: Callable[[int, int], None]) -> None:
        """Be told how many samples of an eval are done."""


class Hosts(Protocol):
    """Where the evals of a run are started, and what earlier runs have left there.

    Attributes:
        names: of the hosts, in the order of --hosts; empty for this one alone.
        others: how many containers of other runs' jobs run there.
    """

    names: Sequence[str]
    others: int

    @property
    def engine_root(self) -> Path | None:
        """The data folder of the engine, if evals run on this host alone."""

    @property
    def have_something(self) -> bool:
        """Whether anything of an earlier run is left there, for this one to record."""

    def taken_over(self, jobs: Iterable[Job]) -> set[str]:
        """Evals of these jobs that an earlier run has begun there, and that this one continues."""

    def schedule(
        self,
        facts: RunFacts,
        plan: Plan,
        *,
        events: SimpleQueue[Event],
        new_id: Callable[[], str],
        budget: TimeBudget | None,
    ) -> Schedule:
        """Get ready what evals need, and schedule them.

        Raises:
            EnvironmentFault: they cannot run there.
        """

    def close(self) -> None:
        """Remove there what is on record."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from runner.engine.live import LiveContainer
from runner.hosts.links import Links
from runner.plan.cutoffs import TimeBudget
from runner.run.dispatch import Dispatch
from runner.secrets import Mask

T = TypeVar("T")

# Seconds that hosts get at the end to remove what is on record.
LAST = 20.0


class HostSchedule:
    """Runs jobs on hosts: a `Schedule`.

    One thread, that of the links, has all state; this is how the others reach it.
    """

    def __init__(
        self,
        links: Links,
        dispatch: Dispatch,
        environment: Mapping[str, str],
        budget: TimeBudget | None,
    ) -> None:
        self.mask = Mask(environment)
        self.budget = budget
        self.events = dispatch.events
        self._links = links
        self._dispatch = dispatch

    @property
    def out_of_time(self) -> bool:
        """Whether a job was left because it did not fit into the time."""
        return self._dispatch.out_of_time

    @property
    def taken(self) -> int:
        """How many slots are in use."""
        return self._dispatch.taken

    def start(self) -> None:
        """Start the first evals."""
        self._links.call(self._dispatch.start)

    def stop_starting(self) -> int:
        """Start nothing more; return how many jobs the first call has left."""
        return self._asked(self._dispatch.stop_starting)

    def pause(self, *, paused: bool) -> None:
        """Start nothing for a while, or start again."""
        self._links.call(lambda: self._dispatch.pause(paused=paused))

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """End all attempts, also one that comes to run only now."""

        def end() -> None:
            self._dispatch.cut = why, "SIGKILL" if kill else "SIGTERM"
            self._dispatch.end_all()

        self._links.call(end)

    def under_way(self) -> list[LiveContainer]:
        """The attempts that run."""

        def ask() -> list[LiveContainer]:
            return [
                LiveContainer(
                    id=known.container,
                    attempt=attempt,
                    eval=known.job.eval,
                    tmp_limit=known.job.settings.tmp_limit,
                    absences=0,
                )
                for attempt, known in self._dispatch.known.items()
                if known.outcome is None
            ]

        return self._asked(ask)

    def follow(self, container: str, tell: Callable[[int, int], None]) -> None:
        """Be told how many samples of an eval are done."""

        def follow() -> None:
            for known in self._dispatch.known.values():
                if known.container == container:
                    known.tell = tell

        self._links.call(follow)

    def close(self) -> None:
        """Wait a while until hosts have removed what is on record, then let them go."""
        end = time.monotonic() + LAST
        while self._asked(lambda: bool(self._dispatch.unsettled)) and time.monotonic() < end:
            time.sleep(0.05)
        self._links.close()
        self._dispatch.close()

    def _asked(self, ask: Callable[[], T]) -> T:
        answer: Future[T] = Future()

        def act() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:  # noqa: BLE001 - it is whoever asks that has to know
                answer.set_exception(error)

        self._links.call(act)
        return answer.result()

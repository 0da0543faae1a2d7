from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from runner.engine.attempt import Made, outcome_of
from runner.engine.ending import Ending
from runner.files import make_folder, sync_file, sync_folder
from runner.gateway.client import Door
from runner.hosts.fetching import CONSOLE, Fetch
from runner.hosts.messages import HasEnded, Setup
from runner.model import Attempt, Job, Task
from runner.records.folders import remove_private
from runner.records.layout import Layout
from runner.secrets import Mask

# Threads that collect logs and ask the gateway.
THREADS = 4


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a run on hosts share.

    Attributes:
        setups: what each host is told.
        wait: seconds for which a host may be away.
        least_free: bytes that have to be free on a host's disk.
        on_record: whether an attempt is on record.
    """

    layout: Layout
    run: str
    gateway: Door | None
    setups: Mapping[str, Setup]
    wait: float
    least_free: int
    on_record: Callable[[str], bool]


class KnownAttempt(msgspec.Struct):
    """An attempt that a host was told to make.

    Attributes:
        here: whether its files are here, as far as they can be.
        outcome: what is to be recorded; None until that is known.
    """

    host: str
    job: Job
    container: str = ""
    fetch: Fetch | None = None
    here: bool = False
    outcome: Attempt | None = None
    tell: Callable[[int, int], None] | None = None


class HostResults:
    """Collects what attempts on hosts have left, and speaks with the gateway, on a few threads.

    Args:
        run: id of the run.
        broken: is told of an error that ends the run.
    """

    def __init__(
        self,
        layout: Layout,
        run: str,
        gateway: Door | None,
        broken: Callable[[BaseException], None],
    ) -> None:
        self._layout = layout
        self._run = run
        self._gateway = gateway
        self._broken = broken
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="results")

    def enter(self, job: Job, attempt: str) -> None:
        """Let an attempt send requests."""
        if self._gateway is not None:
            self._pool.submit(self._gateway.enter, job, attempt)

    def waited(self, attempt: str, tell: Callable[[float], None]) -> None:
        """Ask how long an attempt has waited for its turn."""
        if (gateway := self._gateway) is not None:
            self._pool.submit(lambda: tell(gateway.account(attempt).waited))

    def judge(
        self, host: str, ended: HasEnded, problem: str, tell: Callable[[Attempt], None]
    ) -> None:
        """Collect what an attempt left in its private folder here, and judge it.

        Args:
            problem: why its files are not here; empty if they are.
            tell: is given the outcome, on another thread.
        """

        def act() -> None:
            try:
                outcome = self._outcome(host, ended, problem)
            except BaseException as error:  # noqa: BLE001 - the reader decides what it means
                self._broken(error)
            else:
                tell(outcome)

        self._pool.submit(act)

    def lost(self, host: str, job: Job, attempt: str, why: str) -> Attempt:
        """An attempt that was lost with its host."""
        task = Task(job=job, attempt=attempt)
        made = Made(ending=Ending(lost=why))
        return outcome_of(task, made, self._layout, run=self._run, host=host)

    def clear(self, attempt: str, refused: Attempt | None) -> None:
        """Remove what is here of an attempt that is over.

        Args:
            refused: its outcome, if that is not on record, so that its logs go, too.
        """
        self._pool.submit(self._clear, attempt, refused)

    def close(self) -> None:
        """Wait until all is done."""
        self._pool.shutdown(wait=True)

    def _outcome(self, host: str, ended: HasEnded, problem: str) -> Attempt:
        gateway, layout = self._gateway, self._layout
        made = ended.made
        account = gateway.leave(ended.attempt) if gateway else None
        if problem:
            made = Made(ending=Ending(lost=problem), environment=made.environment)
            remove_private(layout, ended.attempt)
        else:
            console = layout.private(ended.attempt) / CONSOLE
            if console.exists():
                target = layout.console_log(ended.attempt, ended.job.eval)
                make_folder(target.parent)
                console.chmod(0o644)
                sync_file(console)
                _move(console, target)
        ending = msgspec.structs.replace(made.ending, account=account)
        made = msgspec.structs.replace(made, ending=ending)
        task = Task(job=ended.job, attempt=ended.attempt)
        found = outcome_of(task, made, layout, run=self._run, host=host)
        mask = Mask(made.environment, public=ended.job.command)
        left_out = tuple(mask.text(each) for each in ended.warnings)
        return msgspec.structs.replace(found, warnings=(*left_out, *found.warnings))

    def _clear(self, attempt: str, refused: Attempt | None) -> None:
        for log in refused.all_logs if refused else ():
            (self._layout.root / log).unlink(missing_ok=True)
        if self._gateway is not None:
            self._gateway.leave(attempt)
        remove_private(self._layout, attempt)


def _move(source: Path, target: Path) -> None:
    source.replace(target)
    sync_folder(target.parent)

"""Takes in, or ends, what a run that was killed has left on its hosts."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import msgspec

from runner.errors import EnvironmentFault
from runner.files import make_folder, named
from runner.hosts.fetching import Fetch, is_attempt
from runner.hosts.ledger import Ledger, read_ledger
from runner.hosts.leftovers import AT_ONCE, line_to_agent, remove_there
from runner.hosts.links import Links
from runner.hosts.messages import HasEnded, HasSettled, Inventory, Message, Piece, Settle
from runner.hosts.spool import local_agent
from runner.hosts.ssh import LOCAL
from runner.model import TMP_LIMIT, Attempt, Job
from runner.records.folders import remove_tree
from runner.records.layout import Layout
from runner.records.state import RunState
from runner.run.host_results import HostResults
from runner.run.record import Recorder

# Seconds in which agents have to answer, and in which one says which attempts have ended.
ANSWER = 30.0
GRACE = 3.0

# Seconds in which nothing comes from a host, after which it is taken to be away.
SILENCE = 60.0


class TakenIn(msgspec.Struct, kw_only=True):
    """What became of what was left on hosts.

    Attributes:
        recorded: evals that had ended, and are on record now.
        killed: evals that ran.
        removed: attempts that were removed from their hosts.
        problems: why something is still there, one line each.
    """

    recorded: list[str] = []
    killed: list[str] = []
    removed: int = 0
    problems: list[str] = []


def take_in(layout: Layout, *, run: str, forget: bool = False) -> TakenIn:
    """Record what has ended on hosts, kill what runs there, and remove the agents.

    The lock of the run has to be held.

    Args:
        run: id under which attempts are recorded.
        forget: whether attempts on hosts that cannot be reached are not to be taken over later.
    """
    taken = TakenIn()
    if not layout.hosts.exists():
        return taken
    # Also those of attempts that are on record, which they may not know.
    hosts = sorted({each.host for each in read_ledger(layout).started.values()})
    with Recorder(layout, run=run) as recorder:
        ledger = Ledger(layout, is_over=recorder.complete)
        lines: dict[str, Sequence[str]] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = {host: pool.submit(_line, layout, host, ledger.id) for host in hosts}
            for host, future in found.items():
                try:
                    lines[host] = future.result()
                except EnvironmentFault as error:
                    taken.problems.append(str(error))
        answered = {host: line for host, line in lines.items() if line}
        done = set(lines) - set(answered)
        if answered:
            taker = _Taker(layout, ledger, recorder, taken, answered, forget=forget)
            done |= taker.take()
        done = _removed(layout, ledger, done, taken)
        for name, each in {**ledger.left, **ledger.started}.items():
            if forget or each.host in done:
                ledger.settled(name)
        ledger.end(is_over=recorder.complete)
    return taken


def _line(layout: Layout, host: str, id_: str) -> Sequence[str]:
    """The command line that leads to the agent of a host; empty where there is none."""
    if host != LOCAL:
        return line_to_agent(host, id_)
    make_folder(layout.hosts_spool)
    return local_agent(layout, id_)


def _removed(layout: Layout, ledger: Ledger, hosts: set[str], taken: TakenIn) -> set[str]:
    """Remove the agents, with what they did not know of; give the hosts where that was done."""
    names = {each.key: each.eval for each in RunState.from_directory(layout).commands}
    done = set()
    for host in sorted(hosts):
        if host == LOCAL:
            with named(layout.hosts_spool, "delete the folder"):
                remove_tree(layout.hosts_spool)
            with suppress(OSError):  # of others
                layout.hosts_spool.parent.rmdir()
            done.add(host)
            continue
        try:
            left = remove_there(host, ledger.id)
        except EnvironmentFault as error:
            taken.problems.append(str(error))
            continue
        done.add(host)
        taken.removed += len(left)
        known = [ledger.started[name].job for name in left if name in ledger.started]
        taken.killed += [names[job] for job in known if job in names]
    return done


def _limited(job: Job) -> Job:
    """A job as its host tells it; how much of its logs is fetched is not for the host to choose."""
    limit = min(job.settings.tmp_limit, TMP_LIMIT)
    return msgspec.structs.replace(
        job, settings=msgspec.structs.replace(job.settings, tmp_limit=limit)
    )


class _Taker:
    """The links' listener: records what has ended, and has the rest killed."""

    def __init__(
        self,
        layout: Layout,
        ledger: Ledger,
        recorder: Recorder,
        taken: TakenIn,
        lines: dict[str, Sequence[str]],
        *,
        forget: bool,
    ) -> None:
        self._forget = forget
        self._layout = layout
        self._ledger = ledger
        self._recorder = recorder
        self._taken = taken
        self._links = Links(lines, ledger.epoch, recorder.run)
        self._results = HostResults(layout, recorder.run, None, self._broken)
        self._running: dict[str, tuple[str, Job]] = {}
        self._fetches: dict[str, Fetch] = {}
        self._pending: dict[str, set[str]] = {}
        self._open = set(lines)
        self._why: dict[str, str] = {}
        self._done: set[str] = set()
        self._refused: dict[str, str] = {}
        self._over = threading.Event()
        self._heard = time.monotonic()
        self._kill_at = self._heard + ANSWER
        self._error: BaseException | None = None

    def take(self) -> set[str]:
        """Do it; return the hosts where nothing is left."""
        self._links.start(self)
        while not self._over.wait(0.2):
            limit = SILENCE if self._pending else ANSWER
            if time.monotonic() - self._heard > limit:
                break
        self._links.close()
        self._results.close()
        if self._error is not None:
            raise self._error
        for host in sorted(self._open - self._done):
            why = self._refused.get(host) or self._why.get(host, "its agent does not answer")
            if self._forget:
                why += f"; `evalset clean --hosts {host}` removes what is there"
            elif host not in self._refused:
                why += f"; `evalset run --hosts {host}` takes over what is there"
            self._taken.problems.append(f"{host}: {why}")
        return self._done

    def up(self, host: str, inventory: Inventory) -> None:
        """A host is there: what has not ended soon is killed."""
        self._heard = time.monotonic()
        self._kill_at = self._heard + GRACE
        self._pending[host] = set()
        for each in inventory.attempts:
            self._pending[host].add(each.attempt)
            told = self._ledger.started.get(each.attempt) if is_attempt(each.attempt) else None
            if told is None or (told.host, told.job) != (host, each.job.key):
                self._settle(host, each.attempt)
            else:
                self._running[each.attempt] = host, _limited(each.job)
        self._look(host)

    def down(self, host: str, why: str) -> None:
        """A host is away."""
        self._why[host] = why

    def heard(self, host: str, message: Message) -> None:
        """A host says something."""
        self._heard = time.monotonic()
        match message:
            case HasEnded(attempt=attempt) if attempt in self._running:
                self._fetch(host, message)
            case Piece(attempt=attempt) if attempt in self._fetches:
                self._guarded(lambda: self._fetches[attempt].take(message))
            case HasSettled(attempt=attempt):
                self._taken.removed += 1
                self._pending[host].discard(attempt)
                self._look(host)
            case _:
                pass

    def superseded(self, host: str, epoch: int) -> None:  # noqa: ARG002 - as others have it
        """A newer run has the host."""
        used = "a run from a copy of this progress directory uses it; let that one end first"
        self.refused(host, used)

    def refused(self, host: str, why: str) -> None:
        """Its agent will not answer, and is not waited for."""
        self._refused[host] = why
        self._look_at_all()

    def failed(self, error: Exception) -> None:
        """Something went wrong here."""
        self._broken(error)

    def tick(self) -> float | None:
        """Kill what runs."""
        left = self._kill_at - time.monotonic()
        if left > 0:
            return left
        self._kill_at = time.monotonic() + ANSWER
        for attempt, (host, job) in list(self._running.items()):
            del self._running[attempt]
            self._taken.killed.append(job.eval)
            self._settle(host, attempt)
        return ANSWER

    def _fetch(self, host: str, ended: HasEnded) -> None:
        _, job = self._running.pop(ended.attempt)
        ended = msgspec.structs.replace(ended, job=job)

        def done(problem: str) -> None:
            self._results.judge(host, ended, problem, self._judged)

        send = partial(self._links.send, host)
        fetch = self._fetches[ended.attempt] = Fetch(ended, self._layout, send=send, done=done)
        self._guarded(fetch.begin)

    def _judged(self, outcome: Attempt) -> None:
        def record() -> None:
            self._heard = time.monotonic()
            self._recorder.record([outcome])
            self._taken.recorded.append(outcome.eval)
            self._results.clear(outcome.id, None)
            self._settle(outcome.host, outcome.id)

        self._links.call(lambda: self._guarded(record))

    def _settle(self, host: str, attempt: str) -> None:
        self._links.send(host, Settle(attempt=attempt))

    def _look(self, host: str) -> None:
        if not self._pending[host]:
            self._done.add(host)
            self._look_at_all()

    def _look_at_all(self) -> None:
        if self._done | self._refused.keys() == self._open:
            self._over.set()

    def _broken(self, error: BaseException) -> None:
        self._error = error
        self._over.set()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self._broken(error)

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import msgspec

from runner.engine.attempt import Made, outcome_of
from runner.engine.ending import Ending
from runner.engine.ending import now as moment
from runner.engine.live import LiveContainer
from runner.errors import EnvironmentFault
from runner.files import make_folder, sync_folder
from runner.gateway.client import Gateway
from runner.hosts.desk import Desk
from runner.hosts.fetching import CONSOLE, Fetch, is_attempt
from runner.hosts.ledger import Absence, Ledger, StartedThere
from runner.hosts.links import Links
from runner.hosts.messages import (
    AskWaited,
    CannotStart,
    Chunk,
    Credit,
    End,
    Gone,
    HasEnded,
    HasSettled,
    HasStarted,
    Inventory,
    Message,
    Open,
    Piece,
    Room,
    Sampled,
    Say,
    Settle,
    Setup,
    Start,
    Waited,
)
from runner.model import Attempt, Fault, Job, Result, Task
from runner.plan import actions
from runner.plan.actions import Action, Earlier, Outcome
from runner.plan.cutoffs import Budget
from runner.plan.placement import Placement
from runner.records.folders import remove_private
from runner.records.layout import Layout
from runner.report.display import HostsAway
from runner.run.absences import Absences
from runner.run.schedule import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Broken,
    Ended,
    Event,
    Idle,
    Started,
    Told,
    Unfit,
)
from runner.secrets import Mask

T = TypeVar("T")

# Threads that collect logs and ask the gateway.
THREADS = 4

# Seconds that hosts get at the end to remove what is on record.
LAST = 20.0

# Seconds in which hosts that are there have to say what they have, before evals start elsewhere.
PATIENCE = 5.0


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a run on hosts share.

    Attributes:
        setups: what each host is told.
        slots: evals at once, by host.
        wait: seconds for which a host may be away.
        least_free: bytes that have to be free on a host's disk.
        on_record: whether an attempt is on record.
    """

    layout: Layout
    run: str
    gateway: Gateway | None
    setups: Mapping[str, Setup]
    slots: Mapping[str, int]
    wait: float
    least_free: int
    environment: Mapping[str, str]
    on_record: Callable[[str], bool]


class _Known(msgspec.Struct):
    """An attempt that a host was told to make.

    Attributes:
        outcome: what is to be recorded; None until its files are here.
    """

    host: str
    job: Job
    container: str = ""
    fetch: Fetch | None = None
    outcome: Attempt | None = None
    tell: Callable[[int, int], None] | None = None


class HostSlots:
    """The slots of all hosts, as `Slots` has those of this one."""

    def __init__(self, schedule: "HostSchedule") -> None:
        self._schedule = schedule
        self.renewing = 0

    @property
    def taken(self) -> int:
        """How many are in use."""
        return self._schedule.taken

    def close(self) -> None:
        """Let nothing start for a while."""
        self._schedule.pause(paused=True)

    def open(self) -> None:
        """Let evals start again."""
        self._schedule.pause(paused=False)


class HostLive:
    """The attempts under way on all hosts, as `LiveContainers` has those of one engine."""

    def __init__(self, schedule: "HostSchedule") -> None:
        self._schedule = schedule

    def __iter__(self) -> Iterator[LiveContainer]:
        return iter(self._schedule.under_way())

    def end_all(self, why: str, *, kill: bool = False) -> None:
        """Signal every running container to end, or kill it; their attempts count as lost."""
        self._schedule.end_all(why, "SIGKILL" if kill else "SIGTERM")


class HostSchedule:
    """Runs jobs on hosts, and tells of each on one queue, as `Schedule` does for this one.

    One thread, that of the links, has all state; a few others collect logs.

    Attributes:
        slots: closed to pause.
        live: what runs.
        mask: removes values of variables from what is shown.
        budget: the run's time; None for no limit.
        out_of_time: whether a job was left out because it did not fit.
    """

    def __init__(
        self,
        links: Links,
        facts: HostFacts,
        *,
        ledger: Ledger,
        events: SimpleQueue[Event],
        todo: Sequence[Job],
        done: Sequence[Job],
        at_once: int,
        retries: int,
        new_id: Callable[[], str],
        budget: Budget | None,
    ) -> None:
        self.events = events
        self.slots = HostSlots(self)
        self.live = HostLive(self)
        self.mask = Mask(facts.environment)
        self.budget = budget
        self.out_of_time = False
        self.taken = 0
        self._links = links
        self._facts = facts
        self._ledger = ledger
        self._jobs = {job.key: job for job in (*todo, *done)}
        self._known: dict[str, _Known] = {}
        self._recording: dict[str, Attempt] = {}
        self._unsettled: set[str] = set()
        self._cut: tuple[str, str] | None = None
        self._short: set[str] = set()
        self._absences = Absences(facts.wait)
        self._idle: Future[None] = Future()
        # Nothing starts until those that are there have said what they have, so that all get some.
        self._awaited = set(facts.slots)
        self._paused = False
        self._start_by = 0.0
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="results")
        self._desk = Desk(links, facts.gateway, facts.layout.gateway)
        started = {name: (it.host, it.job) for name, it in ledger.started.items()}
        self._placement = Placement(
            facts.slots,
            [job.key for job in todo],
            at_once=at_once,
            retries=retries,
            host_wait=facts.wait,
            new_id=new_id,
            pause=_pause,
            earlier=Earlier(
                done=[job.key for job in done],
                started=started,
                hosts={host for host, _ in started.values()},
            ),
            fits=self._fits,
        )

    # From any thread.

    def start(self) -> None:
        """Start the first evals."""

        def start() -> None:
            self._start_by = time.monotonic() + PATIENCE
            self._awaited &= self._links.up
            self._do(self._placement.pause_all(paused=True, now=time.monotonic()))
            self._links.listen(self)

        self._links.call(start)

    def stop_starting(self) -> int:
        """Start nothing more; return how many jobs the first call has left out."""

        def stop() -> int:
            left_out = self._placement.waiting
            self._do(self._placement.stop_starting(now=time.monotonic()))
            return left_out

        return self._asked(stop)

    def pause(self, *, paused: bool) -> None:
        """Start nothing for a while, or start again."""

        def pause() -> None:
            self._paused = paused
            if not self._awaited:
                self._do(self._placement.pause_all(paused=paused, now=time.monotonic()))

        self._links.call(pause)

    def end_all(self, why: str, signal: str) -> None:
        """End all attempts, also one that comes to run only now."""

        def end() -> None:
            self._cut = why, signal
            for attempt, known in self._known.items():
                if known.outcome is None and known.fetch is None:
                    self._links.send(known.host, End(attempt=attempt, why=why, signal=signal))

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
                for attempt, known in self._known.items()
                if known.outcome is None
            ]

        return self._asked(ask)

    def follow(self, container: str, tell: Callable[[int, int], None]) -> None:
        """Be told how many samples of an eval are done."""

        def follow() -> None:
            for known in self._known.values():
                if known.container == container:
                    known.tell = tell

        self._links.call(follow)

    def close(self) -> None:
        """Wait a while until hosts have removed what is on record, then let them go."""
        end = time.monotonic() + LAST
        while self._asked(lambda: bool(self._unsettled)) and time.monotonic() < end:
            time.sleep(0.05)
        self._links.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _asked(self, ask: Callable[[], T]) -> T:
        answer: Future[T] = Future()

        def act() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:  # noqa: BLE001 - it is whoever asks that has to know
                answer.set_exception(error)

        self._links.call(act)
        return answer.result()

    # From the thread of the links, as its listener.

    def up(self, host: str, inventory: Inventory) -> None:
        """A host is there."""
        if host not in self._facts.setups:
            return  # it could not get what evals need
        self._absences.come(host)
        self._links.send(host, self._facts.setups[host])
        running = {}
        held = {}
        for each in inventory.running:
            if self._believe(host, each.attempt, each.job):
                running[each.attempt] = each.job.key
                self._runs(host, each.attempt, each.container)
        for ended in inventory.ended:
            if self._believe(host, ended.attempt, ended.job):
                held[ended.attempt] = ended.job.key, ended.succeeded
        found = self._placement.connected(host, running, held, now=time.monotonic())
        settled = {it.attempt for it in found if isinstance(it, (actions.Settle, actions.End))}
        self._do(found)
        for ended in inventory.ended:
            known = self._known.get(ended.attempt)
            if known and known.host == host and ended.attempt not in settled:
                self._fetch(host, known, ended)
        if self._cut is not None:
            self.end_all(*self._cut)
        self._await_no_more(host)

    def _await_no_more(self, *hosts: str) -> None:
        """Let evals start once all hosts have said what they have, or will not."""
        if self._awaited:
            self._awaited.difference_update(hosts)
            if not self._awaited:
                self.pause(paused=self._paused)

    def down(self, host: str, why: str) -> None:
        """A host is away."""
        self._desk.lost(host)
        for known in self._known.values():
            if known.host == host and known.fetch is not None:
                known.fetch.cancel()
                known.fetch = None
        self._unsettled = {it for it in self._unsettled if it.partition(" ")[0] != host}
        now = time.monotonic()
        if host in self._facts.setups:
            self._absences.leave(host, why, now=now)
        self._do(self._placement.disconnected(host, now=now))
        self._await_no_more(host)

    def superseded(self, host: str, why: str) -> None:
        """A newer run has the host."""
        self._break(EnvironmentFault(f"{host}: {why}", "only one run may use a progress directory"))

    def failed(self, error: Exception) -> None:
        """Something went wrong here."""
        self._break(error)

    def tick(self) -> float | None:
        """Do what is due."""
        now = time.monotonic()
        if self._awaited and now > self._start_by:
            self._await_no_more(*self._awaited)
        due = self._placement.deadline()
        if due is not None and due <= now:
            self._do(self._placement.tick(now=now))
            due = self._placement.deadline()
        told = self._absences.deadline()
        if told is not None and told <= now:
            self._guarded(self._tell_absences)
            told = self._absences.deadline()
        waits = [each - now for each in (due, told) if each is not None]
        if (retry := self._desk.retry()) is not None:
            waits.append(retry)
        return max(0.0, min(waits)) if waits else None

    def heard(self, host: str, message: Message) -> None:
        """A host says something."""
        attempt = getattr(message, "attempt", "")
        known = self._known.get(attempt)
        if known is not None and known.host != host:
            return
        match message:
            case HasStarted(container=container) if known:
                self._runs(host, attempt, container)
                self._do(self._placement.started(host, attempt, now=time.monotonic()))
            case HasEnded() if known:
                self._fetch(host, known, message)
            case Piece() if known and known.fetch:
                self._guarded(partial(known.fetch.take, message))
            case Sampled(samples=samples, of=of) if known and known.tell:
                known.tell(samples, of)
            case AskWaited() if known and self._facts.gateway:
                self._pool.submit(self._tell_waited, host, attempt)
            case Open(stream=stream) if known:
                self._desk.open(host, stream, attempt)
            case Chunk() | Credit() | Gone():
                self._desk.take(host, message)
            case _:
                self._heard_of_host(host, message)

    def _heard_of_host(self, host: str, message: Message) -> None:
        match message:
            case HasSettled(attempt=attempt):
                self._unsettled.discard(f"{host} {attempt}")
            case Room(free=free):
                self._look_at_disk(host, free)
            case Say(text=text):
                self.events.put(Told(f"{host}: {text}"))
            case CannotStart(what=what, cure=cure):
                self._give_up(host, f"{what}; {cure}" if cure else what)
            case _:
                pass

    # What follows from it.

    def _believe(self, host: str, attempt: str, job: Job) -> bool:
        """Whether a host has been told to make this attempt; if not, it is to forget it."""
        told = self._ledger.started.get(attempt) if is_attempt(attempt) else None
        if told is None or (told.host, told.job) != (host, job.key):
            self._settle(host, attempt)
            return False
        if attempt not in self._known and not self._facts.on_record(attempt):
            self._known[attempt] = _Known(host, self._jobs.get(job.key, job))
            self._enter(attempt)
        return True

    def _runs(self, host: str, attempt: str, container: str) -> None:
        known = self._known.get(attempt)
        if known is None or known.container == container:
            return
        known.container = container
        self.events.put(Started(known.job, attempt, container, host))
        if self._cut is not None:
            why, signal = self._cut
            self._links.send(host, End(attempt=attempt, why=why, signal=signal))

    def _enter(self, attempt: str) -> None:
        if self._facts.gateway is not None:
            self._pool.submit(self._facts.gateway.enter, self._known[attempt].job, attempt)

    def _tell_waited(self, host: str, attempt: str) -> None:
        assert self._facts.gateway  # noqa: S101 - for the type checker
        seconds = self._facts.gateway.account(attempt).waited
        told = Waited(attempt=attempt, seconds=seconds)
        self._links.call(lambda: self._links.send(host, told))

    def _fetch(self, host: str, known: _Known, ended: HasEnded) -> None:
        if known.fetch is not None or known.outcome is not None:
            return
        ended = msgspec.structs.replace(ended, job=known.job)

        def done(problem: str) -> None:
            self._pool.submit(self._finish, host, ended, problem)

        known.fetch = Fetch(
            ended,
            self._facts.layout,
            send=partial(self._links.send, host),
            done=done,
        )
        self._guarded(known.fetch.begin)

    def _finish(self, host: str, ended: HasEnded, problem: str) -> None:
        """Collect what an attempt left, and judge it; on a thread of the pool."""
        try:
            outcome = self._outcome(host, ended, problem)
        except BaseException as error:  # noqa: BLE001 - the reader decides what it means
            self.events.put(Broken(error))
            return

        def tell() -> None:
            known = self._known.get(ended.attempt)
            if known is None:
                return
            known.outcome = outcome
            kind = _outcome(outcome, cut=self._cut is not None)
            if self.budget and outcome.result is Result.SUCCESS:
                self.budget.spent(outcome.command, outcome.duration)
            self._do(self._placement.ended(host, ended.attempt, kind, now=time.monotonic()))

        self._links.call(tell)

    def _outcome(self, host: str, ended: HasEnded, problem: str) -> Attempt:
        gateway, layout = self._facts.gateway, self._facts.layout
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
                _move(console, target)
        ending = msgspec.structs.replace(made.ending, account=account)
        made = msgspec.structs.replace(made, ending=ending)
        task = Task(job=ended.job, attempt=ended.attempt)
        found = outcome_of(task, made, layout, run=self._facts.run, host=host)
        mask = Mask(made.environment, public=ended.job.command)
        left_out = tuple(mask.text(each) for each in ended.warnings)
        return msgspec.structs.replace(found, warnings=(*left_out, *found.warnings))

    def _look_at_disk(self, host: str, free: int) -> None:
        short = free < self._facts.least_free
        if short == (host in self._short):
            return
        (self._short.add if short else self._short.discard)(host)
        if short:
            said = f"only {free / 2**20:.0f} MiB are free on its disk, so no new eval starts there"
        else:
            said = "there is room on its disk again"
        self.events.put(Told(f"{host}: {said}"))
        self._do(self._placement.short_of_disk(host, short=short, now=time.monotonic()))

    def _give_up(self, host: str, why: str) -> None:
        self.events.put(Told(f"{host} cannot be used: {why}"))
        self._absences.forget(host)
        self._links.remove(host)
        self._do(self._placement.remove(host, now=time.monotonic()))

    def _tell_absences(self) -> None:
        """Tell people which hosts are away or back, and whoever reads the ledger."""
        running = Counter(each.host for each in self._known.values() if each.outcome is None)
        hosts = len(self._facts.setups)
        for news in self._absences.news(running.__getitem__, hosts=hosts, now=time.monotonic()):
            if not self._idle.done():
                self.events.put(news)
            since = moment() if isinstance(news, HostsAway) else None
            self._ledger.tell(Absence(host=host, away_since=since) for host in news.hosts)

    def _fits(self, key: str) -> bool:
        return self.budget is None or self.budget.fits(self._jobs[key].command)

    def _break(self, error: BaseException) -> None:
        self.events.put(Broken(error))

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the reader decides what it means
            self._break(error)

    # Actions.

    def _do(self, found: Sequence[Action]) -> None:
        starts = [each for each in found if isinstance(each, actions.Start)]
        if starts:
            self._guarded(lambda: self._start(starts))
        for action in found:
            self._act(action)
        self.taken = self._placement.taken

    def _start(self, starts: Sequence[actions.Start]) -> None:
        self._ledger.start(
            StartedThere(attempt=each.attempt, host=each.host, job=each.job)
            for each in starts
            if each.attempt not in self._known
        )
        for each in starts:
            if each.attempt not in self._known:
                self._known[each.attempt] = _Known(each.host, self._jobs[each.job])
                self._enter(each.attempt)
            self._links.send(each.host, Start(attempt=each.attempt, job=self._jobs[each.job]))

    def _act(self, action: Action) -> None:
        match action:
            case actions.Record(attempt, again):
                known = self._known[attempt]
                assert known.outcome is not None  # noqa: S101 - `ended` was told
                self._record(known.outcome, again=again)
            case actions.RecordLost(host, job, attempt, again):
                self._record(self._lost(host, job, attempt), again=again)
            case actions.Settle(host, attempt) | actions.End(host, attempt):
                self._settle(host, attempt)
                self._forget(attempt)
            case actions.AllAway():
                self._break(
                    EnvironmentFault(
                        "no host has been there for more than "
                        f"{self._facts.wait:g} s (--engine-wait)",
                        "what runs there is taken in by the next run",
                    )
                )
            case actions.Unfit(jobs):
                self.out_of_time = True
                remaining = self.budget.remaining if self.budget else 0.0
                self.events.put(Unfit(jobs, max(0.0, remaining)))
            case actions.Idle():
                self._idle.set_result(None)
                self.events.put(Idle())
            case _:
                pass

    def _record(self, outcome: Attempt, *, again: bool) -> None:
        recorded: Future[None] = Future()

        def tell(future: Future[None]) -> None:
            told = self._placement.not_recorded if future.exception() else self._placement.recorded
            self._links.call(lambda: self._recorded(outcome.id, told))

        recorded.add_done_callback(tell)
        self.events.put(Ended(outcome, again, recorded))

    def _recorded(self, attempt: str, told: Callable[..., list[Action]]) -> None:
        self._do(told(attempt, now=time.monotonic()))
        known = self._known.get(attempt)
        if known is not None and self._facts.on_record(attempt):  # its host is away
            self._forget(attempt)

    def _lost(self, host: str, key: str, attempt: str) -> Attempt:
        known = self._known.get(attempt)
        job = known.job if known else self._jobs.get(key)
        if job is None:
            raise AssertionError(f"nobody knows the attempt {attempt}")
        why = f"its host {host} was away for more than {self._facts.wait:g} s (--engine-wait)"
        made = Made(ending=Ending(lost=why))
        task = Task(job=job, attempt=attempt)
        return outcome_of(task, made, self._facts.layout, run=self._facts.run, host=host)

    def _settle(self, host: str, attempt: str) -> None:
        self._unsettled.add(f"{host} {attempt}")
        self._links.send(host, Settle(attempt=attempt))

    def _forget(self, attempt: str) -> None:
        known = self._known.pop(attempt, None)
        if known is None:
            return
        if known.fetch is not None:
            known.fetch.cancel()
        self._desk.close(attempt)
        self._pool.submit(self._clear, attempt)

    def _clear(self, attempt: str) -> None:
        if self._facts.gateway is not None:
            self._facts.gateway.leave(attempt)
        remove_private(self._facts.layout, attempt)


def _pause(before: int) -> float:
    most: float = min(FIRST_PAUSE * 2**before, LONGEST_PAUSE)
    return most * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, hides nothing


def _outcome(attempt: Attempt, *, cut: bool) -> Outcome:
    if attempt.result is Result.SUCCESS:
        return Outcome.SUCCESS
    if attempt.fault is Fault.EVAL:
        return Outcome.FAILED
    return Outcome.CUT if cut else Outcome.ENVIRONMENT


def _move(source: Path, target: Path) -> None:
    source.replace(target)
    sync_folder(target.parent)

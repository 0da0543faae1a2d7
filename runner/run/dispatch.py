import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue

import msgspec

from runner.hosts.fetching import Fetch, is_attempt
from runner.hosts.ledger import Ledger, StartedThere
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
    HasSucceeded,
    Inventory,
    Message,
    Open,
    Piece,
    Room,
    Sampled,
    Say,
    Settle,
    Start,
    Waited,
)
from runner.hosts.relay import RelayDesk
from runner.model import Attempt, Job, Result
from runner.plan import actions
from runner.plan.actions import Action
from runner.plan.cutoffs import TimeBudget
from runner.plan.placement import Placement
from runner.run.host_news import HostNews
from runner.run.host_results import HostFacts, HostResults, KnownAttempt
from runner.run.schedule import Broken, Ended, Event, Idle, Started, Unfit

# Seconds in which hosts that are there have to say what they have, before evals start elsewhere.
PATIENCE = 5.0


class Dispatch:
    """Tells hosts what placement decides, and placement what they say: the links' listener.

    All of it is for the thread of the links.

    Args:
        facts: what all attempts share.
        ledger: what was started on hosts.
        jobs: all of the plan.
        budget: the run's time; None for no limit.

    Attributes:
        events: what happens, for the reader.
        placement: decides.
        known: attempts that hosts were told to make, by id.
        unsettled: attempts that hosts have still to remove.
        cut: why all attempts are ended, and by which signal; None if they are not.
        out_of_time: whether a job was left because it did not fit.
    """

    def __init__(
        self,
        links: Links,
        facts: HostFacts,
        *,
        ledger: Ledger,
        events: SimpleQueue[Event],
        jobs: Iterable[Job],
        placement: Placement,
        budget: TimeBudget | None,
    ) -> None:
        self.events = events
        self._budget = budget
        self.out_of_time = False
        self.taken = 0
        self._links = links
        self._facts = facts
        self._ledger = ledger
        self._jobs = {job.key: job for job in jobs}
        self.placement = placement
        self.known: dict[str, KnownAttempt] = {}
        self.unsettled: set[str] = set()
        self.cut: tuple[str, str] | None = None
        # Nothing starts until those that are there have said what they have, so that all get some.
        self._awaited = set(facts.setups)
        self._paused = False
        self._start_by = 0.0
        self._idle = False
        self._news = HostNews(
            events, ledger, facts, self._evals_on, lambda: self.placement.stopping
        )
        self._results = HostResults(facts.layout, facts.run, facts.gateway, self.failed)
        self._desk = RelayDesk(links, facts.gateway, facts.layout.gateway)

    def _evals_on(self, host: str) -> int:
        return sum(each.host == host for each in self.known.values())

    def start(self) -> None:
        """Start the first evals once the hosts that are there have said what they have."""
        self._start_by = time.monotonic() + PATIENCE
        self._awaited &= self._links.up
        self._do(self.placement.pause_all(paused=True, now=time.monotonic()))
        self._links.listen(self)

    def stop_starting(self) -> int:
        """Start nothing more; return how many jobs that leaves."""
        left_out = self.placement.waiting
        self._do(self.placement.stop_starting(now=time.monotonic()))
        return left_out

    def pause(self, *, paused: bool) -> None:
        """Start nothing for a while, or start again."""
        self._paused = paused
        if not self._awaited:
            self._do(self.placement.pause_all(paused=paused, now=time.monotonic()))

    def end_all(self) -> None:
        """End all attempts, if that was asked for."""
        for attempt, known in self.known.items() if self.cut is not None else ():
            if known.outcome is None and known.fetch is None:
                self._cut_off(known.host, attempt)

    def _cut_off(self, host: str, attempt: str) -> None:
        if self.cut is not None:
            why, signal = self.cut
            self._links.send(host, End(attempt=attempt, why=why, signal=signal))

    def close(self) -> None:
        """Wait until all that was recorded is cleared away here; from another thread."""
        self._results.close()

    def up(self, host: str, inventory: Inventory) -> None:
        """A host is there."""
        if host not in self._facts.setups:
            return  # it could not get what evals need
        self._news.back(host)
        self._links.send(host, self._facts.setups[host])
        running = {}
        held = {}
        for each in inventory.attempts:
            if not self._believe(host, each.attempt, each.job):
                continue
            if each.ended:
                held[each.attempt] = each.job.key, False
            else:
                running[each.attempt] = each.job.key
                self._runs(host, each.attempt, each.container)
        self._do(self.placement.connected(host, running, held, now=time.monotonic()))
        self.end_all()
        self._await_no_more(host)

    def _await_no_more(self, *hosts: str) -> None:
        """Let evals start once all hosts have said what they have, or will not."""
        if self._awaited:
            self._awaited.difference_update(hosts)
            if not self._awaited:
                self._tell_idle()
                self.pause(paused=self._paused)

    def _tell_idle(self) -> None:
        """Let the run end, but not before all hosts have said what is to be removed there."""
        if self._idle and not self._awaited:
            self.events.put(Idle())

    def down(self, host: str, why: str) -> None:
        """A host is away."""
        self._desk.lost(host)
        for known in self.known.values():
            if known.host == host and known.fetch is not None and not known.here:
                known.fetch.cancel()
                known.fetch = None
        self.unsettled = {it for it in self.unsettled if it.partition(" ")[0] != host}
        self._do(self.placement.disconnected(host, now=time.monotonic()))
        self._await_no_more(host)
        self._news.away(host, why)

    def superseded(self, host: str, epoch: int) -> None:  # noqa: ARG002 - as others have it
        """A newer run has the host."""
        self.failed(self._news.superseded(host))

    def refused(self, host: str, why: str) -> None:
        """An agent does not serve this version; its host is away until another one does."""

    def failed(self, error: BaseException) -> None:
        """Something went wrong here."""
        self.events.put(Broken(error))

    def tick(self) -> float | None:
        """Do what is due."""
        now = time.monotonic()
        if self._awaited and now > self._start_by:
            self._await_no_more(*self._awaited)
        due = self.placement.deadline()
        if due is not None and due <= now:
            self._do(self.placement.tick(now=now))
            due = self.placement.deadline()
        if self.placement.waiting and not self.placement.taken and (full := self._news.no_room()):
            self.stop_starting()
            self.failed(full)
        also = due and due - now, self._desk.retry(), self._news.tick()
        waits = [it for it in also if it is not None]
        return max(0.0, min(waits)) if waits else None

    def heard(self, host: str, message: Message) -> None:
        """A host says something."""
        attempt = getattr(message, "attempt", "")
        known = self.known.get(attempt)
        if known is not None and known.host != host:
            return
        match message:
            case HasStarted(container=container) if known:
                self._runs(host, attempt, container)
                self._do(self.placement.started(host, attempt, now=time.monotonic()))
            case HasSucceeded() if known and self._budget is None:
                # With a budget, what starts next is judged by how long this one took.
                self._do(self.placement.succeeded(host, attempt, now=time.monotonic()))
            case HasEnded() if known:
                self._fetch(host, known, message)
            case Piece() if known and known.fetch:
                self._guarded(partial(known.fetch.take, message))
            case Sampled(samples=samples, of=of) if known and known.tell:
                known.tell(samples, of)
            case AskWaited() if known and self._facts.gateway:
                self._results.waited(attempt, partial(self._tell_waited, host, attempt))
            case Open(stream=stream) if known:
                self._desk.open(host, stream, attempt)
            case Chunk() | Credit() | Gone():
                self._desk.take(host, message)
            case _:
                self._heard_of_host(host, message)

    def _heard_of_host(self, host: str, message: Message) -> None:
        match message:
            case HasSettled(attempt=attempt):
                self.unsettled.discard(f"{host} {attempt}")
                self._ledger.settled(attempt)
            case Room(free=free):
                if (short := self._news.disk(host, free)) is not None:
                    now = time.monotonic()
                    self._do(self.placement.short_of_disk(host, short=short, now=now))
            case Say(text=text):
                self._news.said(host, text)
            case CannotStart(what=what, cure=cure):
                self._give_up(host, f"{what}; {cure}" if cure else what)
            case _:
                pass

    def _tell_waited(self, host: str, attempt: str, seconds: float) -> None:
        told = Waited(attempt=attempt, seconds=seconds)
        self._links.call(lambda: self._links.send(host, told))

    def _believe(self, host: str, attempt: str, job: Job) -> bool:
        """Whether a host has been told to make this attempt; if not, it is to forget it."""
        told = self._ledger.started.get(attempt) if is_attempt(attempt) else None
        if told is None or (told.host, told.job) != (host, job.key):
            self._settle(host, attempt)
            return False
        if attempt not in self.known and not self._facts.on_record(attempt):
            self.known[attempt] = KnownAttempt(host, self._jobs.get(job.key, job))
            self._results.enter(self.known[attempt].job, attempt)
        return True

    def _runs(self, host: str, attempt: str, container: str) -> None:
        known = self.known.get(attempt)
        if known is None or known.container == container:
            return
        known.container = container
        self.events.put(Started(known.job, attempt, container, host))
        self._cut_off(host, attempt)

    def _fetch(self, host: str, known: KnownAttempt, ended: HasEnded) -> None:
        if known.fetch is not None or known.outcome is not None:
            return
        ended = msgspec.structs.replace(ended, job=known.job)

        def done(problem: str) -> None:
            known.here = True
            self._results.judge(host, ended, problem, self._judged)

        send = partial(self._links.send, host)
        known.fetch = Fetch(ended, self._facts.layout, send=send, done=done)
        self._guarded(known.fetch.begin)

    def _judged(self, outcome: Attempt) -> None:
        """The files of an attempt are here; on a thread of the results."""

        def tell() -> None:
            known = self.known.get(outcome.id)
            if known is None:
                self._results.clear(outcome.id, outcome)
                return
            known.outcome = outcome
            if self._budget and outcome.result is Result.SUCCESS:
                self._budget.spent(outcome.command, outcome.duration)
            ended, now = self.placement.ended, time.monotonic()
            self._do(ended(outcome.host, outcome.id, outcome.result, now=now))

        self._links.call(tell)

    def _give_up(self, host: str, why: str) -> None:
        self._news.give_up(host, why)
        self._do(self.placement.remove(host, now=time.monotonic()))

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the reader decides what it means
            self.failed(error)

    def _do(self, found: Sequence[Action]) -> None:
        self._guarded(lambda: self._put_down(found))
        for action in found:
            self._act(action)
        self.taken = self.placement.taken

    def _put_down(self, found: Sequence[Action]) -> None:
        """Put down what is to start, before any host is told."""
        new = [
            it
            for it in found
            if isinstance(it, actions.StartAttempt) and it.attempt not in self.known
        ]
        if new:
            lines = (StartedThere(attempt=it.attempt, host=it.host, job=it.job) for it in new)
            self._ledger.start(lines)
        for each in new:
            self.known[each.attempt] = KnownAttempt(each.host, self._jobs[each.job])
            self._results.enter(self._jobs[each.job], each.attempt)

    def _act(self, action: Action) -> None:
        match action:
            case actions.StartAttempt(host, job, attempt):
                if attempt in self.known:  # else it could not be put down
                    self._links.send(host, Start(attempt=attempt, job=self._jobs[job]))
            case actions.Record(attempt, again):
                known = self.known[attempt]
                assert known.outcome is not None  # noqa: S101 - `ended` was told
                self._record(known.outcome, again=again)
            case actions.RecordLost(host, job, attempt, again):
                known_job = self.known[attempt].job if attempt in self.known else self._jobs[job]
                why = self._news.why_lost(host)
                self._record(self._results.lost(host, known_job, attempt, why), again=again)
            case actions.SettleAttempt(host, attempt) | actions.EndAttempt(host, attempt):
                self._settle(host, attempt)
                self._forget(attempt)
            case actions.AllAway():
                self.failed(self._news.all_away())
            case actions.OutOfTime(jobs):
                self.out_of_time = True
                remaining = self._budget.remaining if self._budget else 0.0
                self.events.put(Unfit(jobs, max(0.0, remaining)))
            case actions.AllIdle():
                self._idle = True
                self._tell_idle()

    def _record(self, outcome: Attempt, *, again: bool) -> None:
        recorded: Future[None] = Future()

        def tell(future: Future[None]) -> None:
            told = self.placement.not_recorded if future.exception() else self.placement.recorded
            self._links.call(lambda: self._recorded(outcome.id, told))

        recorded.add_done_callback(tell)
        self.events.put(Ended(outcome, again, recorded))

    def _recorded(self, attempt: str, told: Callable[..., list[Action]]) -> None:
        self._do(told(attempt, now=time.monotonic()))
        known = self.known.get(attempt)
        if known is not None and self._facts.on_record(attempt):  # its host is away
            if known.host in self._news.given_up:
                self._settle(known.host, attempt)
            self._forget(attempt)

    def _settle(self, host: str, attempt: str) -> None:
        if host in self._links.up:
            self.unsettled.add(f"{host} {attempt}")
        self._links.send(host, Settle(attempt=attempt))

    def _forget(self, attempt: str) -> None:
        known = self.known.pop(attempt, None)
        if known is None:
            return
        if known.fetch is not None:
            known.fetch.cancel()
        self._desk.close(attempt)
        refused = None if self._facts.on_record(attempt) else known.outcome
        self._results.clear(attempt, refused)

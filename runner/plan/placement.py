from collections.abc import Callable, Mapping, Sequence

from runner.model import Result
from runner.plan.actions import (
    Action,
    AllAway,
    AllIdle,
    Earlier,
    EndAttempt,
    OutOfTime,
    Record,
    RecordLost,
    SettleAttempt,
    StartAttempt,
)
from runner.plan.fleet import ALIVE, ON_HOST, Fleet, JobQueue, Phase, Placed, PlacedHost, PlacedJob


class Placement:
    """Decides which job starts when, on the host that `Fleet.next_room` names, and what counts.

    It has no clock, no disk and no network: whoever has them tells what happened and when, in
    seconds that never decrease, and does what the returned actions say, in their order. Messages
    may be lost, late, doubled or out of order: a job is accepted once.

    Args:
        fleet: the hosts, on which nothing is known to run yet.
        jobs: keys of the jobs to do, in order.
        at_once: how many attempts may run in all.
        retries: how often a job is tried again because its environment was at fault.
        new_id: makes the id of an attempt.
        pause: seconds before a retry, given how many came before it.
        earlier: what earlier runs left.
        fits: whether a job may start now, because enough time remains for it.
    """

    def __init__(
        self,
        fleet: Fleet,
        jobs: Sequence[str],
        *,
        at_once: int,
        retries: int,
        new_id: Callable[[], str],
        pause: Callable[[int], float],
        earlier: Earlier | None = None,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        earlier = earlier or Earlier()
        self._at_once, self._retries, self._new_id, self._pause = at_once, retries, new_id, pause
        self._fleet = fleet
        self._queue = JobQueue(jobs, fits)
        self._jobs = {key: PlacedJob(key) for key in jobs}
        self._done = frozenset(earlier.done)
        self._on_record: set[str] = set()
        self._kept: set[str] = set()  # attempts that could not be recorded
        self._began = self._paused = self._stopping = self._all_away = self._idle = False
        for attempt, (name, key) in earlier.started.items():
            self._add(attempt, self._fleet.unknown(name), key, Phase.RUNNING, earlier=True)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a slot, or for a retry."""
        return len(self._queue)

    @property
    def stopping(self) -> bool:
        """Whether nothing starts any more."""
        return self._stopping

    @property
    def taken(self) -> int:
        """How many slots are in use, as far as is known."""
        return self._fleet.taken

    def deadline(self) -> float | None:
        """When to call `tick` at the latest; None if nothing is due by itself."""
        if not self._began:
            return 0.0
        times = (self._fleet.next_lost(), self._queue.next_due())
        return min((time for time in times if time is not None), default=None)

    def tick(self, *, now: float) -> list[Action]:
        """Time has passed."""
        return self._proceed([], now)

    def connected(
        self,
        name: str,
        running: Mapping[str, str],
        held: Mapping[str, tuple[str, bool]],
        *,
        now: float,
    ) -> list[Action]:
        """A host is there, or has told again what it has.

        Args:
            running: the job of each attempt that runs there.
            held: of each that has ended there and is not settled the job, and whether it succeeded.
                If no action concerns it, bring its files here and tell `ended`.
        """
        host = self._fleet.get(name)
        if host is None:
            return self._proceed([], now)
        actions = self._begin(now)
        host.up, host.lost = True, False
        for attempt, key in running.items():
            actions += self._found(host, attempt, key, Phase.RUNNING)
        for attempt, (key, _) in held.items():
            actions += self._found(host, attempt, key, Phase.HELD)
        for known in list(host.attempts.values()):
            if known.id not in running and known.id not in held:
                actions += self._missing(known)
        self._fleet.look_for_room(host)
        return self._proceed(actions, now)

    def disconnected(self, name: str, *, now: float) -> list[Action]:
        """A host is away."""
        actions = self._begin(now)
        host = self._fleet.get(name)
        if host is not None and host.up:
            self._fleet.leave(host, now)
        return self._proceed(actions, now)

    def remove(self, name: str, *, now: float) -> list[Action]:
        """A host cannot be used in this run; its attempts are lost."""
        actions = self._begin(now)
        host = self._fleet.get(name)
        if host is not None:
            self._fleet.leave(host, now)
            host.removed = True
            actions += self._lose_hosts([host])
        return self._proceed(actions, now)

    def short_of_disk(self, name: str, *, short: bool, now: float) -> list[Action]:
        """A host gets no new attempts while it is short of disk."""
        host = self._fleet.get(name)
        if host is not None:
            host.short = short
            self._fleet.look_for_room(host)
        return self._proceed([], now)

    def pause_all(self, *, paused: bool, now: float) -> list[Action]:
        """Nothing starts for a while, or starts again."""
        self._paused = paused
        return self._proceed([], now)

    def stop_starting(self, *, now: float) -> list[Action]:
        """Nothing starts any more; `waiting` says before how many jobs this leaves."""
        self._stop()
        return self._proceed([], now)

    def started(self, name: str, attempt: str, *, now: float) -> list[Action]:
        """An attempt runs."""
        if self._is_refused(attempt):
            return self._proceed([EndAttempt(name, attempt)], now)
        known = self._fleet.attempts.get(attempt)
        if known is not None and known.host.name == name and known.phase is Phase.ASKED:
            known.phase = Phase.RUNNING
        return self._proceed([], now)

    def succeeded(self, name: str, attempt: str, *, now: float) -> list[Action]:
        """A container has ended well, so that its slot is free; `ended` may find a failure."""
        known = self._fleet.attempts.get(attempt)
        if known is not None and known.host.name == name and known.phase in ON_HOST:
            if known.phase is Phase.ASKED:  # `started` was lost, or comes late
                known.phase = Phase.RUNNING
            self._free_early(known)
        return self._proceed([], now)

    def ended(self, name: str, attempt: str, result: Result, *, now: float) -> list[Action]:
        """An attempt has ended, and all its files are here."""
        if self._is_refused(attempt):
            return self._proceed([SettleAttempt(name, attempt)], now)
        known = self._fleet.attempts.get(attempt)
        if known is None or known.host.name != name or known.phase not in ON_HOST:
            return self._proceed([], now)
        known.result = result
        if result is Result.SUCCESS:
            self._free_early(known)
        if any(each.phase is Phase.RECORDING for each in known.rivals):
            known.phase = Phase.PENDING
            return self._proceed([], now)
        return self._proceed([self._accept(known)], now)

    def recorded(self, attempt: str, *, now: float) -> list[Action]:
        """An attempt is on record, and durable."""
        known = self._fleet.attempts.get(attempt)
        if known is None or known.phase not in {Phase.RECORDING, Phase.LOSING}:
            return self._proceed([], now)
        self._fleet.drop(known)
        self._on_record.add(attempt)
        actions: list[Action] = []
        if known.host.up:
            actions.append(
                (EndAttempt if known.phase is Phase.LOSING else SettleAttempt)(
                    known.host.name, attempt
                )
            )
        return self._proceed(actions + self._continue(known, now), now)

    def not_recorded(self, attempt: str, *, now: float) -> list[Action]:
        """An attempt could not be recorded: its host keeps it, and nothing more starts."""
        self._stop()
        known = self._fleet.attempts.get(attempt)
        if known is None or known.phase not in {Phase.RECORDING, Phase.LOSING}:
            return self._proceed([], now)
        self._fleet.drop(known)
        self._kept.add(attempt)
        pending = [each for each in known.rivals if each.phase is Phase.PENDING]
        return self._proceed([self._accept(each) for each in pending[:1]], now)

    def _is_refused(self, attempt: str) -> bool:
        """Whether no outcome of an attempt counts, because it is on record."""
        return attempt in self._on_record

    def _free_early(self, known: Placed) -> None:
        """Free a slot before the outcome is on record, unless the attempt may be running again."""
        if not known.asked_again:
            self._fleet.free(known)

    def _begin(self, now: float) -> list[Action]:
        """Take the first time that is told as that since when hosts are away."""
        if self._began:
            return []
        self._began = True
        for host in self._fleet:
            self._fleet.leave(host, now)
        return self._lose_hosts([host for host in self._fleet if host.removed])

    def _proceed(self, actions: list[Action], now: float) -> list[Action]:
        """Add what is due by now."""
        actions += self._begin(now)
        actions += self._lose_hosts(self._fleet.gone_too_long(now))
        self._queue.wake(now)
        actions += self._start_some()
        if not self._idle and self._is_idle():
            self._idle = True
            actions.append(AllIdle())
        return actions

    def _is_idle(self) -> bool:
        if self._queue:
            return False
        return all(map(self._is_left_to_the_next_run, self._fleet.attempts.values()))

    def _is_left_to_the_next_run(self, known: Placed) -> bool:
        if self._all_away and known.host.lost and known.phase in ON_HOST:
            return True
        return not known.job.wanted and known.phase is Phase.RUNNING

    def _lose_hosts(self, hosts: Sequence[PlacedHost]) -> list[Action]:
        actions: list[Action] = []
        for host in hosts:
            host.lost = True
        if hosts and not self._all_away and all(host.lost for host in self._fleet):
            self._all_away = True
            self._stop()
            actions.append(AllAway(max(host.since for host in hosts)))
        if self._all_away:  # nothing could run elsewhere
            hosts = [host for host in hosts if host.removed]
        for host in hosts:
            for known in [each for each in host.attempts.values() if each.phase in ON_HOST]:
                if known.job.wanted:
                    actions.append(self._lose(known))
                else:
                    self._fleet.drop(known)
        return actions

    def _start_some(self) -> list[Action]:
        actions: list[Action] = []
        if self._stopping or self._paused:
            return actions
        while self._fleet.has_room and self._fleet.taken < self._at_once:
            if (key := self._queue.take()) is None:
                if left_out := self._queue.leave_out():
                    actions.append(OutOfTime(left_out))
                break
            host = self._fleet.next_room(self._jobs[key].avoid)
            known = self._add(self._new_id(), host, key, Phase.ASKED)
            actions.append(StartAttempt(host.name, key, known.id))
        return actions

    def _stop(self) -> None:
        self._stopping = True
        self._queue.clear()

    def _add(
        self, attempt: str, host: PlacedHost, key: str, phase: Phase, *, earlier: bool = False
    ) -> Placed:
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = PlacedJob(key, wanted=False, over=key in self._done)
        if job.wanted:
            self._queue.remove(key)
        known = Placed(attempt, host, job, phase, earlier=earlier)
        self._fleet.add(known)
        return known

    def _found(self, host: PlacedHost, attempt: str, key: str, phase: Phase) -> list[Action]:
        """A host says that it has an attempt."""
        if self._is_refused(attempt):
            return [(SettleAttempt if phase is Phase.HELD else EndAttempt)(host.name, attempt)]
        known = self._fleet.attempts.get(attempt)
        if known is not None and known.host is not host:
            return [EndAttempt(host.name, attempt)]
        if known is not None and known.phase in ON_HOST:
            known.phase = phase
        if known is not None or attempt in self._kept:
            return []
        known = self._add(attempt, host, key, phase, earlier=True)
        if known.job.over:
            return [self._lose(known)]
        alive = [each for each in (known, *known.rivals) if each.phase in ALIVE]
        first = min(alive, key=lambda each: each.age, default=None)
        return [self._lose(each) for each in alive if each is not first]

    def _missing(self, known: Placed) -> list[Action]:
        """A host does not have an attempt that it was to have."""
        if known.phase not in ON_HOST:
            return []
        if known.phase is not Phase.ASKED:
            known.job.failures += not known.earlier
            return [self._lose(known)]
        if self._stopping or self._paused or known.host.short:
            self._fleet.drop(known)
            if not (self._stopping or known.job.attempts):
                self._queue.add(known.job.key)
            return []
        known.asked_again = True
        return [StartAttempt(known.host.name, known.job.key, known.id)]

    def _accept(self, known: Placed) -> Action:
        """Have an outcome recorded."""
        known.phase = Phase.RECORDING
        known.again = known.result is not Result.SUCCESS and bool(known.rivals)
        if known.result is Result.LOST:
            # An attempt of an earlier run does not count as one of this run's.
            known.job.failures += not known.earlier
            known.job.avoid = known.host.name
            known.again = known.again or self._may_continue(known.job)
        return Record(known.id, known.again)

    def _lose(self, known: Placed) -> Action:
        """Have an attempt recorded as lost; only then may its job start elsewhere."""
        known.phase = Phase.LOSING
        job = known.job
        known.again = not job.over and (bool(known.rivals) or self._may_continue(job))
        return RecordLost(known.host.name, job.key, known.id, known.again)

    def _may_continue(self, job: PlacedJob) -> bool:
        return job.wanted and not self._stopping and job.failures <= self._retries

    def _continue(self, known: Placed, now: float) -> list[Action]:
        """Continue with the job of an attempt that is on record."""
        job = known.job
        if known.phase is Phase.RECORDING and known.result is Result.SUCCESS:
            job.over = True
            return [self._lose(each) for each in known.rivals]
        pending = [each for each in known.rivals if each.phase is Phase.PENDING]
        recording = any(each.phase is Phase.RECORDING for each in known.rivals)
        if pending and not recording:
            return [self._accept(pending[0])]
        if job.over or job.attempts:
            return []
        if not known.again:
            job.over = True
        elif self._stopping:
            return []
        elif known.phase is Phase.LOSING:
            self._queue.add(job.key)
        else:
            self._queue.rest(job.key, now + self._pause(max(0, job.failures - 1)))
        return []

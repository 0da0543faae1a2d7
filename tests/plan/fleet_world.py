"""A world in virtual time: hosts that go away and come back, and a runner that dies, by a seed."""

import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count

from runner.model import Result
from runner.plan.actions import (
    Action,
    AllAway,
    AllIdle,
    Earlier,
    EndAttempt,
    Record,
    RecordLost,
    SettleAttempt,
    StartAttempt,
)
from runner.plan.fleet import Fleet
from runner.plan.placement import Placement
from tests.plan.fleet_parts import Agent, Size, Violation

HOST_WAIT = 120.0
RETRIES = 3
# Runs after which all must be done.
MOST_RUNS = 1000

# Seconds in which hosts that are there have to say what they have, before evals start elsewhere.
PATIENCE = 5.0

# Seconds that a message takes, that files take to come, and that it takes to record something.
MESSAGE, FILES, FSYNC = 0.05, 0.4, 0.02


class World:
    """Runs all evals, disturbed, and checks each thing that happens.

    Attributes:
        accepted: the attempt that succeeded, by job.
        book: the attempts on record; None is one that was lost.
        disturbed: how often something of each kind has gone wrong.
    """

    def __init__(self, seed: str, size: Size, make: type[Placement] = Placement) -> None:
        self._decide = random.Random(seed)  # noqa: S311 - hides nothing
        self._size = size
        self._make = make
        self._ids = (f"{number:08}" for number in count())
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.now = 0.0
        self._jobs = [f"j{number}" for number in range(size.evals)]
        self._agents = {
            name: Agent(name, self._decide.randint(1, 8))
            for name in (f"h{number}" for number in range(size.hosts))
        }
        self.accepted: dict[str, str] = {}
        self.book: dict[str, Result | None] = {}
        self.disturbed: defaultdict[str, int] = defaultdict(int)
        self._ran: defaultdict[str, set[str]] = defaultdict(set)  # attempts of each job
        self._journal: dict[str, tuple[str, str]] = {}
        self._epoch = 0
        self._outcomes: dict[str, Result] = {}  # of attempts whose files have come
        self._idle = False
        self._calm = False
        self._ticking = float("inf")

    def run(self) -> None:
        """Let runs follow each other until all is done, then look at what is left."""
        for agent in self._agents.values():
            self._later_disturbed(agent)
        while len(self.accepted) < len(self._jobs):
            if self._epoch > MOST_RUNS:
                raise Violation("run follows run, and not all gets done")
            self._start_runner()
            death = self._decide.expovariate(1 / self._size.restart)
            self._after(death, partial(self._kill_runner, self._epoch))
            self._until_idle()
        self._calm = True
        for agent in self._agents.values():
            agent.there = True
        self._start_runner()
        self._until_idle()
        while self._events:
            self._step()
        self._check_end()

    # Time.

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heappush(self._events, (self.now + seconds, next(self._order), act))

    def _step(self) -> None:
        self.now, _, act = heappop(self._events)
        act()

    def _until_idle(self) -> None:
        while not self._idle:
            if not self._events:
                raise Violation("nothing happens any more, though evals are to be done")
            self._step()

    # The runner.

    def _start_runner(self) -> None:
        self._epoch += 1
        self._idle = False
        self._since = dict.fromkeys(self._agents, self.now)
        self._up: dict[str, int] = {}
        self._recording: dict[str, Result | None] = {}
        self._over: set[str] = set()  # jobs with which this run is through
        started = {key: value for key, value in self._journal.items() if key not in self.book}
        self._told_to_make = set(started)
        self._placement = self._make(
            Fleet({agent.name: agent.slots for agent in self._agents.values()}, HOST_WAIT),
            [job for job in self._jobs if job not in self.accepted],
            at_once=self._size.hosts * 4,
            retries=RETRIES,
            new_id=lambda: next(self._ids),
            pause=lambda retry: min(2.0**retry, 60),
            earlier=Earlier(
                done=self.accepted,
                started=started,
            ),
        )
        self._ticking = float("inf")
        self._through = False  # whether placement is idle
        self._awaited = {agent.name for agent in self._agents.values() if agent.there}
        self._do(self._placement.pause_all(paused=True, now=self.now))
        self._after(PATIENCE, partial(self._await_no_more, self._epoch, *self._awaited))
        for agent in self._agents.values():
            self._after(self._decide.uniform(0, 3), partial(self._connect, agent, self._epoch))

    def _kill_runner(self, epoch: int) -> None:
        """The process ends; of what it is recording, some gets on the disk."""
        if self._epoch != epoch or self._idle or self._calm:
            return
        self.disturbed["runner"] += 1
        for attempt, outcome in self._recording.items():
            if self._decide.random() < 0.5:
                self._write(attempt, outcome)
        self._idle = True
        self._epoch += 1

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartAttempt(host, job, attempt):
                    self._check_start(job, attempt)
                    self._journal[attempt] = (host, job)
                    self._told_to_make.add(attempt)
                    self._send(host, action)
                case SettleAttempt(host, _) | EndAttempt(host, _):
                    self._send(host, action)
                case Record(attempt, again):
                    if not again:
                        self._over.add(self._journal[attempt][1])
                    self._record(attempt, self._outcomes[attempt])
                case RecordLost(host, job, attempt, again):
                    self._check_lost(host, job, attempt)
                    if not again:
                        self._over.add(job)
                    self._record(attempt, None)
                case AllIdle():
                    self._through = True
                    self._idle = not self._awaited
                case _ if not isinstance(action, AllAway):
                    raise Violation(f"unknown: {action}")
        self._tick_in_time()

    def _tick_in_time(self) -> None:
        deadline = self._placement.deadline()
        if deadline is not None and deadline < self._ticking:
            self._ticking = deadline
            self._after(max(0.0, deadline - self.now), partial(self._tick, self._epoch))

    def _await_no_more(self, epoch: int, *names: str) -> None:
        """Let evals start, and the run end, once all hosts have said what they have."""
        if epoch == self._epoch and self._awaited:
            self._awaited.difference_update(names)
            if not self._awaited:
                self._idle = self._through
                self._do(self._placement.pause_all(paused=False, now=self.now))

    def _tick(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._ticking = float("inf")
            self._do(self._placement.tick(now=self.now))

    def _record(self, attempt: str, outcome: Result | None) -> None:
        if attempt in self._recording or attempt in self.book:
            raise Violation(f"{attempt} is recorded twice")
        self._recording[attempt] = outcome
        self._after(FSYNC, partial(self._recorded, self._epoch, attempt))

    def _recorded(self, epoch: int, attempt: str) -> None:
        if epoch != self._epoch:
            return
        outcome = self._recording.pop(attempt)
        if not self._calm and self._decide.random() < 0.2 / self._size.evals:
            self.disturbed["disk"] += 1
            self._do(self._placement.not_recorded(attempt, now=self.now))
        else:
            self._write(attempt, outcome)
            self._do(self._placement.recorded(attempt, now=self.now))

    def _write(self, attempt: str, outcome: Result | None) -> None:
        self.book[attempt] = outcome
        if outcome is Result.SUCCESS:
            job = self._journal[attempt][1]
            if job in self.accepted:
                raise Violation(f"{job} is accepted twice: {self.accepted[job]}, {attempt}")
            self.accepted[job] = attempt

    # The network.

    def _connect(self, agent: Agent, epoch: int) -> None:
        """A link comes about; an older runner is refused."""
        if epoch != self._epoch or self._idle or not agent.there or agent.name in self._up:
            return
        agent.link += 1
        agent.deaf = False
        self._up[agent.name] = agent.link
        for attempt in {*agent.running, *agent.held} - self._told_to_make:
            self._send(
                agent.name, SettleAttempt(agent.name, attempt)
            )  # on record, by an earlier runner
        running = {id_: job for id_, job in agent.running.items() if id_ in self._told_to_make}
        held = {
            id_: (job, outcome is Result.SUCCESS)
            for id_, (job, outcome) in agent.held.items()
            if id_ in self._told_to_make
        }
        actions = self._placement.connected(agent.name, running, held, now=self.now)
        self._do(actions)
        settled = {
            action.attempt for action in actions if isinstance(action, SettleAttempt | RecordLost)
        }
        for attempt in held:
            if attempt not in settled:
                self._fetch(agent, attempt)
        self._await_no_more(epoch, agent.name)

    def _disconnect(self, agent: Agent) -> None:
        if self._up.pop(agent.name, None) is None:
            return
        self._since[agent.name] = self.now
        # What is on its way may arrive, although the runner knows nothing of that any more.
        agent.deaf = self._decide.random() < 0.5
        for _ in range(self._decide.choice((1, 1, 1, 2))):
            self._do(self._placement.disconnected(agent.name, now=self.now))
        self._await_no_more(self._epoch, agent.name)

    def _send(self, host: str, action: StartAttempt | SettleAttempt | EndAttempt) -> None:
        agent = self._agents[host]
        if host in self._up:
            self._after(MESSAGE, partial(self._receive, agent, self._up[host], action))

    def _tell(self, seconds: float, tell: Callable[[], list[Action]]) -> None:
        """Let a message reach the runner: perhaps twice, perhaps much later."""
        late = 0.0
        if self._decide.random() < 0.02:
            late = self._decide.choice((0.3, 30.0, 200.0))
            self.disturbed["late"] += 1
        self._after(seconds + late, partial(self._told, self._epoch, tell))
        if self._decide.random() < 0.02:
            self.disturbed["doubled"] += 1
            again = self._decide.choice((0.3, 30.0, 200.0))
            self._after(seconds + again, partial(self._told, self._epoch, tell))

    def _told(self, epoch: int, tell: Callable[[], list[Action]]) -> None:
        if epoch == self._epoch:
            self._do(tell())

    # The hosts.

    def _receive(
        self, agent: Agent, link: int, action: StartAttempt | SettleAttempt | EndAttempt
    ) -> None:
        """An agent does what it is told, by its newest link alone."""
        if agent.link != link or not agent.there or (agent.deaf and agent.name not in self._up):
            return
        attempt = action.attempt
        if isinstance(action, StartAttempt):
            if attempt not in agent.running and attempt not in agent.held:
                self._run(agent, action.job, attempt)
        else:
            agent.running.pop(attempt, None)
            agent.held.pop(attempt, None)

    def _run(self, agent: Agent, job: str, attempt: str) -> None:
        if len(agent.running) >= agent.slots:
            raise Violation(f"{agent.name} runs more than its {agent.slots} slots")
        self._ran[job].add(attempt)
        agent.running[attempt] = job
        self._after(self._decide.uniform(20, 100), partial(self._ends, agent, attempt))
        name, place = agent.name, self._placement
        self._tell(MESSAGE, lambda: place.started(name, attempt, now=self.now))

    def _ends(self, agent: Agent, attempt: str) -> None:
        if not agent.there or attempt not in agent.running:
            return
        drawn = 1.0 if self._calm else self._decide.random()
        outcome = Result.SUCCESS
        if drawn < 0.03:
            outcome = Result.LOST if drawn < 0.02 else Result.FAILURE
        agent.held[attempt] = (agent.running.pop(attempt), outcome)
        if agent.name in self._up:
            if outcome is Result.SUCCESS:
                name, place = agent.name, self._placement
                self._tell(MESSAGE, lambda: place.succeeded(name, attempt, now=self.now))
            self._fetch(agent, attempt)

    def _fetch(self, agent: Agent, attempt: str) -> None:
        self._after(FILES, partial(self._fetched, agent, attempt, agent.link))

    def _fetched(self, agent: Agent, attempt: str, link: int) -> None:
        if self._up.get(agent.name) == link and attempt in agent.held:
            _, outcome = agent.held[attempt]
            name, place = agent.name, self._placement
            self._outcomes[attempt] = outcome
            self._tell(0.0, lambda: place.ended(name, attempt, outcome, now=self.now))

    # What goes wrong.

    def _later_disturbed(self, agent: Agent) -> None:
        for mean, disturb in (
            (self._size.link, self._fail_link),
            (self._size.power, self._lose_power),
        ):
            if mean:
                self._after(self._decide.expovariate(1 / mean), partial(disturb, agent))

    def _fail_link(self, agent: Agent) -> None:
        """The link breaks or the network is cut, for less or more than a host may be away."""
        if self._calm:
            return
        self.disturbed["link"] += 1
        self._disconnect(agent)
        away = self._decide.choice((0.5, 5.0, 60.0, 100.0, 150.0, 400.0))
        self._after(away, lambda: self._connect(agent, self._epoch))
        again = away + self._decide.expovariate(1 / self._size.link)
        self._after(again, partial(self._fail_link, agent))

    def _lose_power(self, agent: Agent) -> None:
        """All that runs has ended when the host is back; with its disk, it has forgotten all."""
        if self._calm:
            return
        self.disturbed["power"] += 1
        self._disconnect(agent)
        agent.there = False
        wiped = self._decide.random() < 0.2
        away = self._decide.choice((20.0, 90.0, 300.0))

        def back() -> None:
            agent.there = True
            if wiped:
                self.disturbed["wiped"] += 1
                agent.held.clear()
            else:
                for attempt, job in agent.running.items():
                    agent.held[attempt] = (job, Result.LOST)
            agent.running.clear()
            self._connect(agent, self._epoch)

        self._after(away, back)
        again = away + self._decide.expovariate(1 / self._size.power)
        self._after(again, partial(self._lose_power, agent))

    # What must hold.

    def _check_start(self, job: str, attempt: str) -> None:
        if job in self.accepted:
            raise Violation(f"{job} starts again after its success")
        others = {each for each in self._ran[job] if each not in self.book and each != attempt}
        if others:
            raise Violation(f"{job} starts again while {others} is not on record")

    def _check_lost(self, host: str, job: str, attempt: str) -> None:
        agent = self._agents[host]
        away = host not in self._up and self.now - self._since[host] >= HOST_WAIT - 1e-6
        vanished = attempt not in agent.running and attempt not in agent.held
        rivals = sum(each not in self.book for each in self._ran[job]) > 1
        if not (away or vanished or rivals or job in self._over or job in self.accepted):
            raise Violation(f"{attempt} is given up although {host} has it and is there")

    def _check_end(self) -> None:
        if missing := set(self._jobs) - self.accepted.keys():
            raise Violation(f"{len(missing)} evals were lost")
        forgotten = {each for ran in self._ran.values() for each in ran} - self.book.keys()
        if forgotten:
            raise Violation(f"not on record: {forgotten}")
        if left := [each.name for each in self._agents.values() if each.running or each.held]:
            raise Violation(f"something is left on {left}")

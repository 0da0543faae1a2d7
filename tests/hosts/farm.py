"""A farm: agents of many hosts in one process, whose evals only pretend, and a runner of theirs.

`python -m tests.hosts.farm FOLDER DECISIONS` is the process with the agents.
"""

import contextlib
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from runner.engine.attempt import Made
from runner.engine.ending import Ending
from runner.host import new_id
from runner.hosts.ledger import Ledger
from runner.hosts.link import READ, Link, Poller
from runner.hosts.links import BEAT, Collector, Links, _Member
from runner.hosts.messages import (
    HasEnded,
    HasSettled,
    HasStarted,
    HasSucceeded,
    Hello,
    Inventory,
    Message,
    Room,
    Settle,
    Setup,
    Start,
    There,
)
from runner.model import Job, Result
from runner.plan.fleet import Fleet
from runner.plan.placement import Placement
from runner.records.layout import Layout
from runner.run.dispatch import Dispatch
from runner.run.host_results import HostFacts
from runner.run.record import Recorder
from runner.run.schedule import Broken, Ended, Event, Idle
from tests.conftest import until
from tests.outcomes import job

SOCKET = "farm.sock"
NAME = 16  # bytes of a host's name, which a connection begins with

# On ten hosts of two slots, 2000 evals of a second each would take 100 seconds.
ALONE = """
import sys
from pathlib import Path
import msgspec
from tests.hosts.farm import Decisions, Taken, run_on_farm
hosts, evals = map(int, sys.argv[2:])
short = Decisions(seed="1", seconds=(0.05, 0.15))
made = run_on_farm(Path(sys.argv[1]), short, hosts=hosts, slots=2, evals=evals)
taken = Taken(memory=made.memory, threads=made.threads, finished=len(made.successes))
print(msgspec.json.encode(taken).decode())
"""


class Decisions(msgspec.Struct, frozen=True, kw_only=True):
    """What agents do.

    Attributes:
        seconds: that an eval takes, at least and at most.
        killed: share of the agents that are killed each minute; their evals keep running.
        away: seconds for which one that was killed does not answer.
        free: bytes on the disk of each.
    """

    seed: str
    seconds: tuple[float, float] = (0.5, 1.5)
    killed: float = 0.0
    away: float = 2.0
    free: int = 1 << 40


class _Agent(msgspec.Struct, eq=False):
    name: str
    link: Link | None = None
    silent_until: float = 0.0
    running: dict[str, Job] = {}
    ended: dict[str, HasEnded] = {}


class Farm:
    """The agents. It writes down each attempt that it starts, and each agent that it kills."""

    def __init__(self, folder: Path, decisions: Decisions) -> None:
        self._decide = random.Random(decisions.seed)  # noqa: S311 - hides nothing
        self._decisions = decisions
        self._poller = Poller()
        self._agents: dict[str, _Agent] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._journal = (folder / "journal").open("a", buffering=1)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(4096)
        self._poller.watch(self._listener.fileno(), READ, lambda _: self._accept())
        self._after(1, self._each_second)

    def serve(self) -> None:
        """Run until the process is killed."""
        while True:
            wait = self._due[0][0] - time.monotonic() if self._due else 1.0
            self._poller.step(max(0.0, wait))
            while self._due and self._due[0][0] <= time.monotonic():
                heappop(self._due)[2]()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heappush(self._due, (time.monotonic() + seconds, next(self._order), act))

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        name = connection.recv(NAME, socket.MSG_WAITALL).decode().strip()
        agent = self._agents.setdefault(name, _Agent(name))
        if time.monotonic() < agent.silent_until:
            connection.close()
            return
        if agent.link is not None:
            agent.link.close()
        descriptor = connection.detach()
        agent.link = Link(
            self._poller,
            descriptor,
            descriptor,
            take=lambda message: self._take(agent, message),
            lost=lambda _: setattr(agent, "link", None),
        )

    def _say(self, agent: _Agent, message: Message) -> None:
        if agent.link is not None:
            agent.link.send(message)

    def _take(self, agent: _Agent, message: Message) -> None:
        match message:
            case Hello():
                there = [There(attempt=it, job=job) for it, job in agent.running.items()]
                there += [
                    There(attempt=it.attempt, job=it.job, ended=True) for it in agent.ended.values()
                ]
                self._say(agent, Inventory(cpus=8, rootless=False, attempts=tuple(there)))
                for ended in list(agent.ended.values()):
                    self._say(agent, ended)
            case Start(attempt=attempt, job=started):
                if attempt not in agent.running and attempt not in agent.ended:
                    self._start(agent, attempt, started)
            case Settle(attempt=attempt):
                agent.running.pop(attempt, None)
                agent.ended.pop(attempt, None)
                self._say(agent, HasSettled(attempt=attempt))
            case _:
                pass

    def _start(self, agent: _Agent, attempt: str, started: Job) -> None:
        self._journal.write(f"start {agent.name} {attempt} {started.key}\n")
        agent.running[attempt] = started
        self._say(agent, HasStarted(attempt=attempt, container=attempt))
        self._after(
            self._decide.uniform(*self._decisions.seconds), lambda: self._end(agent, attempt)
        )

    def _end(self, agent: _Agent, attempt: str) -> None:
        ended_job = agent.running.pop(attempt, None)
        if ended_job is None:
            return
        made = Made(ending=Ending(exit_code=0), seconds=1.0)
        self._say(agent, HasSucceeded(attempt=attempt))
        ended = HasEnded(attempt=attempt, job=ended_job, made=made, files=())
        agent.ended[attempt] = ended
        self._say(agent, ended)

    def _each_second(self) -> None:
        for agent in self._agents.values():
            if self._decide.random() < self._decisions.killed / 60:
                self._journal.write(f"kill {agent.name}\n")
                agent.silent_until = time.monotonic() + self._decisions.away
                if agent.link is not None:
                    agent.link.close()
                    agent.link = None
            self._say(agent, Room(free=self._decisions.free))
        self._after(1, self._each_second)


class FarmLinks(Links):
    """Links that lead to a farm, and not to processes."""

    def __init__(self, folder: Path, hosts: list[str]) -> None:
        super().__init__({name: ["farm"] for name in hosts}, epoch=1, run="r")
        self._folder = folder

    def _connect(self, name: str, member: _Member) -> None:
        member.due = time.monotonic() + BEAT
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._folder / SOCKET))
        connection.sendall(name.ljust(NAME).encode())
        descriptor = connection.detach()
        member.link = Link(
            self.poller,
            descriptor,
            descriptor,
            take=lambda message: self._take(name, member, message),
            lost=lambda why: self._broke(name, member, why),
        )
        member.link.send(self._hello())


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run on a farm.

    Attributes:
        successes: how often each job was accepted.
        started: how many attempts the agents made.
        killed: how many agents were killed.
        threads: most of the runner's at once.
        memory: most bytes of the runner at once.
        seconds: from the first start until all was recorded.
        cpu: seconds that the runner took of it.
    """

    successes: Counter[str]
    started: int
    killed: int
    threads: int
    memory: int
    seconds: float
    cpu: float


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner's process took at once, at most; memory in bytes."""

    memory: int
    threads: int
    finished: int


@contextlib.contextmanager
def farm(folder: Path, decisions: Decisions) -> Iterator[None]:
    """Run a farm's process while the `with` block lasts."""
    line = [sys.executable, "-m", __name__, str(folder), msgspec.json.encode(decisions).decode()]
    root = Path(__file__).parents[2]
    with subprocess.Popen(line, cwd=root) as process:
        try:
            until((folder / SOCKET).exists)
            yield
        finally:
            process.kill()


def run_on_farm(
    folder: Path, decisions: Decisions, *, hosts: int, slots: int, evals: int
) -> Summary:
    """Run evals on a farm, recorded as those of any run are; its files are in the folder."""
    names = [f"h{number}" for number in range(hosts)]
    jobs = [job(f"e{number}.dev.v0") for number in range(evals)]
    layout = Layout(root=folder / "progress", model="dummy", eval_set="s")
    events: SimpleQueue[Event] = SimpleQueue()
    with farm(folder, decisions), Recorder(layout, run="r") as recorder:
        links = FarmLinks(folder, names)
        collector = Collector(names, links.outbid)
        links.start(collector)
        collector.wait()
        assert collector.inventories.keys() == set(names)
        facts = HostFacts(
            layout=layout,
            run="r",
            gateway=None,
            setups=dict.fromkeys(names, SETUP),
            wait=120,
            least_free=1 << 30,
            on_record=recorder.complete,
        )
        placement = Placement(
            Fleet(dict.fromkeys(names, slots), facts.wait),
            [each.key for each in jobs],
            at_once=hosts * slots,
            retries=0,
            new_id=new_id,
            pause=lambda _: 1.0,
        )
        dispatch = Dispatch(
            links,
            facts,
            ledger=Ledger(layout, is_over=recorder.complete),
            events=events,
            jobs=jobs,
            placement=placement,
            budget=None,
        )
        began, cpu = time.monotonic(), time.process_time()
        links.call(dispatch.start)
        try:
            successes, threads = _record(events, recorder)
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            until(lambda: not dispatch.unsettled, seconds=60)
        finally:
            links.close()
            dispatch.close()
    journal = (folder / "journal").read_text().splitlines()
    return Summary(
        successes=successes,
        started=sum(line.startswith("start") for line in journal),
        killed=sum(line.startswith("kill") for line in journal),
        threads=threads,
        memory=_most_memory(),
        seconds=seconds,
        cpu=cpu,
    )


def alone_on_farm(folder: Path, *, hosts: int, evals: int) -> Taken:
    """Run short evals on a farm with the runner in a process of its own, which is measured."""
    line = [sys.executable, "-c", ALONE, str(folder), str(hosts), str(evals)]
    root = Path(__file__).parents[2]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True, cwd=root)
    return msgspec.json.decode(done.stdout, type=Taken)


def _record(events: SimpleQueue[Event], recorder: Recorder) -> tuple[Counter[str], int]:
    """Record until nothing runs any more; give what succeeded, and the most threads."""
    successes: Counter[str] = Counter()
    threads = 0
    while True:
        found: list[Event] = [events.get(timeout=300)]
        with contextlib.suppress(Empty):
            while True:
                found.append(events.get_nowait())
        threads = max(threads, threading.active_count())
        ended = [event for event in found if isinstance(event, Ended)]
        if ended:
            recorder.record([event.outcome for event in ended])
        for each in ended:
            successes[each.outcome.command.key] += each.outcome.result is Result.SUCCESS
            each.recorded.set_result(None)
        for event in found:
            if isinstance(event, Broken):
                raise event.error
        if any(isinstance(event, Idle) for event in found):
            return successes, threads


def _most_memory() -> int:
    """Bytes; the kernel's `ru_maxrss` would be that of the parent, if that had more."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


SETUP = Setup(
    run="r",
    images={},
    added=(),
    python_paths={},
    registries=(),
    code={},
    classes=None,
    hide=None,
    environment={},
    user="0:0",
    gateway=False,
    shared_network=False,
    data={},
)


if __name__ == "__main__":
    Farm(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Decisions)).serve()

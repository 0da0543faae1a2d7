import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from runner.hosts.link import READ, Link, Poller
from runner.hosts.messages import PROTOCOL, Hello, Inventory, Message, Ping, Refused

# Seconds between two words to an agent, and after which one that says nothing is taken to hang.
BEAT = 10.0
SILENCE = 15.0

# Seconds before a link is tried again: first, and at most.
SOON = 0.5
LATER = 15.0

# Seconds in which agents that were started have to answer.
ANSWER = 60.0

# Seconds after which people are told that an agent has not answered yet.
SLOW = 5.0

# Bytes kept of what ssh complains of.
_COMPLAINT = 4096


class Listener(Protocol):
    """Is told what hosts say, on the thread of the links."""

    def up(self, host: str, inventory: Inventory) -> None:
        """A host is there, or says again what it has."""

    def down(self, host: str, why: str) -> None:
        """A host is away."""

    def heard(self, host: str, message: Message) -> None:
        """A host says something."""

    def superseded(self, host: str, epoch: int) -> None:
        """A run of this epoch, not older than this one, has taken a host over."""

    def refused(self, host: str, why: str) -> None:
        """An agent does not serve this version; `down` follows, and the host is tried again."""

    def failed(self, error: Exception) -> None:
        """Something went wrong here."""

    def tick(self) -> float | None:
        """Do what is due; return seconds until there is more, None for never."""


class _Member:
    """A host and the process that leads to it.

    Attributes:
        up: whether its agent has said what it has.
        due: when to do something about it, by `time.monotonic`.
    """

    def __init__(self, line: Sequence[str], environ: Mapping[str, str]) -> None:
        self.line = line
        self.environ = environ
        self.process: subprocess.Popen[bytes] | None = None
        self.link: Link | None = None
        self.up = False
        self.due = 0.0
        self.pause = SOON
        self.complaint = b""


class Links:
    """The links to all hosts, on one thread; one that breaks is tried again.

    Args:
        lines: by host, the command line whose standard input and output lead to its agent.
        run: id of this run.

    Attributes:
        epoch: of this run.
        listener: is told what hosts say.
        poller: of the thread.
    """

    def __init__(self, lines: Mapping[str, Sequence[str]], epoch: int, run: str) -> None:
        self.poller = Poller()
        self.listener: Listener | None = None
        self.epoch = epoch
        self._run_id = run
        ours = os.pathsep.join([_PLACE, *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {**os.environ, "PYTHONPATH": ours}
        self._members = {name: _Member(line, environ) for name, line in lines.items()}
        self._over = False
        self._ending: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._run, name="hosts", daemon=True)

    def start(self, listener: Listener) -> None:
        """Connect to all hosts."""
        self.listener = listener
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Tell another one from now on, beginning with what hosts have."""
        self.listener = listener
        for name, member in self._members.items():
            if member.up:
                self.send(name, self._hello())

    def outbid(self, epoch: int) -> None:
        """Have a newer epoch than another run."""
        self.epoch = max(self.epoch, epoch + 1)
        for name, member in self._members.items():
            if member.up:
                self.send(name, self._hello())

    def _hello(self) -> Hello:
        return Hello(protocol=PROTOCOL, epoch=self.epoch, run=self._run_id)

    @property
    def up(self) -> set[str]:
        """Hosts that are there."""
        return {name for name, member in self._members.items() if member.up}

    def call(self, act: Callable[[], None]) -> None:
        """Have something done on the thread."""
        self.poller.call(act)

    def close(self) -> None:
        """Let all hosts go; agents keep what they have."""
        if self._thread.ident is None:
            return

        def end() -> None:
            self._over = True

        self.call(end)
        self._thread.join()

    # On the thread.

    def send(self, host: str, message: Message) -> None:
        """Tell a host something; nothing if it is away."""
        member = self._members.get(host)
        if member is not None and member.link is not None:
            member.link.send(message)

    def _run(self) -> None:
        while not self._over:
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - the other hosts stay in use
                if self.listener is not None:
                    self.listener.failed(error)
                time.sleep(SOON)
            self._ending = [each for each in self._ending if each.poll() is None]
        for member in self._members.values():
            self._disconnect(member)
        for process in self._ending:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LATER)

    def _step(self) -> None:
        now = time.monotonic()
        due = [self._look_after(name, it, now) for name, it in self._members.items()]
        more = self.listener.tick() if self.listener is not None else None
        if more is not None:
            due.append(now + more)
        self.poller.step(max(0.0, min(due, default=now + BEAT) - time.monotonic()))

    def _look_after(self, name: str, member: _Member, now: float) -> float:
        """Do what is due for a host; return when to look again."""
        if now < member.due:
            return member.due
        if member.link is None:
            self._connect(name, member)
        elif now - member.link.heard > SILENCE:
            self._broke(name, member, f"it has said nothing for {SILENCE:g} s")
        else:
            if member.up:
                member.link.send(Ping())
            member.due = now + BEAT
        return member.due

    def _connect(self, name: str, member: _Member) -> None:
        member.due = time.monotonic() + BEAT
        member.complaint = b""
        process = member.process = subprocess.Popen(
            member.line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=member.environ,
            start_new_session=True,  # Ctrl-C is for the run alone
        )
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - for the type checker
        errors = process.stderr.fileno()
        os.set_blocking(errors, False)
        self.poller.watch(errors, READ, lambda _: self._complains(member, errors))
        member.link = Link(
            self.poller,
            os.dup(process.stdout.fileno()),
            os.dup(process.stdin.fileno()),
            take=lambda message: self._take(name, member, message),
            lost=lambda why: self._broke(name, member, why),
        )
        process.stdout.close()
        process.stdin.close()
        member.link.send(self._hello())

    def _complains(self, member: _Member, errors: int) -> None:
        try:
            said = os.read(errors, _COMPLAINT)
        except OSError:
            said = b""
        member.complaint = (member.complaint + said)[-_COMPLAINT:]
        if not said:
            self.poller.watch(errors, 0, _nothing)

    def _take(self, name: str, member: _Member, message: Message) -> None:
        assert self.listener is not None  # noqa: S101 - for the type checker
        match message:
            case Inventory():
                member.up = True
                member.pause = SOON
                self.listener.up(name, message)
            case Refused(why=why, epoch=epoch) if epoch >= self.epoch:
                self.listener.superseded(name, epoch)
                self._broke(name, member, why)
            case Refused(why=why, epoch=epoch):
                if not epoch:
                    self.listener.refused(name, why)
                self._broke(name, member, why)
            case _ if member.up:
                self.listener.heard(name, message)

    def _broke(self, name: str, member: _Member, why: str) -> None:
        if member.process is not None and member.process.stderr is not None:
            self._complains(member, member.process.stderr.fileno())
        was_up = member.up
        self._disconnect(member)
        member.due = time.monotonic() + member.pause
        member.pause = min(2 * member.pause, LATER)
        lines = member.complaint.decode(errors="replace").strip().splitlines()
        if self.listener is not None:
            self.listener.down(name, (lines[-1] if lines else why) if was_up or lines else why)

    def _disconnect(self, member: _Member) -> None:
        member.up = False
        if member.link is not None:
            member.link.close()
            member.link = None
        if member.process is not None:
            if member.process.stderr is not None:
                self.poller.watch(member.process.stderr.fileno(), 0, _nothing)
                member.process.stderr.close()
            if member.line[0] == "ssh":  # a local agent ends by itself, with its link
                member.process.kill()
            self._ending.append(member.process)
            member.process = None


class Collector:
    """Takes in what hosts have, until a schedule does."""

    def __init__(self, hosts: Iterable[str], outbid: Callable[[int], None]) -> None:
        self._outbid = outbid
        self.inventories: dict[str, Inventory] = {}
        self.problems: dict[str, str] = {}
        self.error: Exception | None = None
        self._missing = set(hosts)
        self._all = threading.Event()

    def wait(self, tell: Callable[[Iterable[str]], None] = lambda _: None) -> None:
        """Wait until all hosts have said what they have, or will not.

        Args:
            tell: is told which hosts are waited for, once that takes a while.
        """
        began = time.monotonic()
        told = False
        while not self._all.wait(0.2) and self.error is None:
            waited = time.monotonic() - began
            if waited > ANSWER:
                return
            if waited > SLOW and not told:
                told = True
                tell(sorted(self._missing))

    def up(self, host: str, inventory: Inventory) -> None:
        """A host is there."""
        self.inventories[host] = inventory
        self._missing.discard(host)
        if not self._missing:
            self._all.set()

    def down(self, host: str, why: str) -> None:
        """A host is away."""
        self.problems[host] = why

    def heard(self, host: str, message: Message) -> None:
        """A host says something; it says so again to the schedule."""

    def superseded(self, host: str, epoch: int) -> None:  # noqa: ARG002 - as the others have it
        """A run from a copy of the progress directory has the host; this one is newer."""
        self._outbid(epoch)

    def refused(self, host: str, why: str) -> None:
        """An agent does not serve this version, and is not waited for."""
        self.problems[host] = why
        self._missing.discard(host)
        if not self._missing:
            self._all.set()

    def failed(self, error: Exception) -> None:
        """Something went wrong here."""
        self.error = error

    def tick(self) -> float | None:
        """Nothing is due."""
        return None


# Where the package of this code is.
_PLACE = str(Path(__file__).absolute().parents[2])


def _nothing(_: int) -> None:
    """A descriptor that nobody watches."""

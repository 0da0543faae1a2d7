import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from runner.branch.blobs import COMPRESSED, Blobs
from runner.branch.git import Entry, GitError
from runner.branch.progress_branch import About, MovedError, ProgressBranch, message
from runner.branch.remote import PATIENCE, OvertakenError, Remote
from runner.files import named
from runner.records.belonging import all_logs, is_log, logs_of, state_files
from runner.records.layout import Layout
from runner.records.merge import README, Kind, LeftOut, kind_of, merge
from runner.records.run_file import parse_run_file
from runner.records.state import StateReader

# How often somebody else may be faster before a push is left to the next snapshot.
TRIES = 40

# How often another process may have moved or locked the branch in the same repository.
LOCAL_TRIES = 12

FIRST_PAUSE = 0.3

LONGEST_PAUSE = 5.0

LEFT_OUT = ".left-out.jsonl"

# In the place of a page that holds a secret.
NO_PAGE = "# Progress of evals\n\nThis page is left out, for it would show a secret.\n"


class Snapshots:
    """Puts a progress directory on its branch, and the branch on its remote.

    Attributes:
        branch: that the snapshots go to.
        remote: that they are pushed to; None if they stay in the repository.
        pushes: how often a push was tried.
    """

    def __init__(
        self,
        branch: ProgressBranch,
        layout: Layout,
        *,
        remote: Remote | None,
        blobs: Blobs,
        about: About,
        sleep: Callable[[float], None],
    ) -> None:
        self.branch = branch
        self.remote = remote
        self.about = about
        self.pushes = 0
        self._layout = layout
        self._blobs = blobs
        self._sleep = sleep
        self._reader = StateReader()
        self._start = str(layout.progress.relative_to(layout.root)).removesuffix("progress.txt")
        self._tip = branch.tip()
        self._landed: str | None = None
        self._overtaken = False
        self._own: set[str] = set()
        self._there: set[str] | None = None
        self._looked_around = False

    @property
    def tip(self) -> str | None:
        """The newest snapshot."""
        return self._tip

    def fetch(self, *, seconds: float = PATIENCE) -> None:
        """Bring the remote's snapshots here, and merge them with ours.

        Raises:
            RemoteError: the remote is away, or refuses.
        """
        if self.remote is None:
            return
        self._retrying(OvertakenError)(lambda: self._fetch(seconds))

    def take(self) -> bool:
        """Commit what is new; False if nothing is."""
        return bool(self._retrying(MovedError)(self._take))

    def push(self, *, seconds: float = PATIENCE) -> None:
        """Make the remote's branch what ours is, merged with what others have pushed meanwhile.

        Raises:
            RemoteError: the remote is away, or refuses.
            OvertakenError: others were faster each time.
        """
        if self.remote is None or self._tip is None or self._tip == self._landed:
            return
        self._retrying(OvertakenError)(lambda: self._push(seconds))

    def _retrying(self, error: type[Exception]) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(error),
            wait=wait_random_exponential(
                multiplier=FIRST_PAUSE, max=1 if error is MovedError else LONGEST_PAUSE
            ),
            stop=stop_after_attempt(LOCAL_TRIES if error is MovedError else TRIES),
            sleep=self._sleep,
            reraise=True,
        )

    def _fetch(self, seconds: float) -> None:
        assert self.remote is not None  # noqa: S101 - `fetch` has looked
        theirs = self.remote.fetch(self.branch.name, seconds=seconds)
        if theirs is not None and theirs != self._tip:
            self.branch.check(theirs)
            self._retrying(MovedError)(lambda: self._join(theirs))
        self._landed = theirs

    def _push(self, seconds: float) -> None:
        assert self.remote is not None  # noqa: S101 - `push` has looked
        assert self._tip is not None  # noqa: S101 - as above
        if self._overtaken:
            # After the pause, not before it: others would be the faster ones meanwhile.
            self._fetch(seconds)
            self._overtaken = False
        self.pushes += 1
        try:
            self.remote.push(self._tip, self.branch.name, seconds=seconds)
        except OvertakenError:
            self._overtaken = True
            raise
        self._landed = self._tip
        self._own.clear()

    def _take(self) -> bool:
        before = self.branch.states(self._tip)
        for name, content in before.items():
            if name.endswith(LEFT_OUT):
                self._blobs.bind(LeftOut.read(content))
        states = before | self._states_here(before)
        files = self._blobs.fitting(self._logs_here())
        if self._blobs.left_out:
            here = b"".join(one.line for one in self._blobs.left_out.values())
            name = f"{self._start.removesuffix('.')}{LEFT_OUT}"
            states[name] = merge(name, states.get(name, b""), here)
        if not files and states == before:
            return False
        self._put([self._tip] if self._tip else [], before, states, files=files)
        return True

    def _put(
        self,
        parents: list[str],
        before: dict[str, bytes],
        states: dict[str, bytes],
        *,
        files: Mapping[str, Path] | None = None,
        logs: Sequence[Entry] = (),
    ) -> None:
        """Commit logs, and what of the state files is not as it was in the first parent."""
        made = {path: content for path, content in states.items() if before.get(path) != content}
        page = self.branch.page(states).decode()
        made[README] = self._blobs.public("the branch's page", page, instead=NO_PAGE).encode()
        entries = [*logs, *self._blobs.store(files or {}, made)]
        text = self._message(before, states)
        text = self._blobs.public("the commit's message", text, instead="snapshot\n")
        try:
            tip = self.branch.put(parents, entries, states, text, old=self._tip)
        except MovedError:
            self._tip, self._there = self.branch.tip(), None
            raise
        self._tip = tip
        self._own.add(tip)
        if self._there is not None:
            self._there.update(entry.path for entry in entries)

    def _states_here(self, before: dict[str, bytes]) -> dict[str, bytes]:
        """The state files of the progress directory, merged with those of the branch."""
        merged = {}
        for name in state_files(self._layout):
            path = self._layout.root / name
            with named(path, "read"):
                content = path.read_bytes()
            if kind_of(name) is Kind.LINES:
                content = self._blobs.without_secrets(name, content)
                if content.startswith(before.get(name, b"")):  # as always while we are alone
                    merged[name] = content
                    continue
            elif content != before.get(name) and self._blobs.withholds(name, content):
                continue
            merged[name] = merge(name, content, before.get(name, content))
        return merged

    def _logs_here(self) -> list[str]:
        """Logs of this host that the branch does not have."""
        if self._there is None:
            repository = self.branch.repository
            files = repository.files(self._tip, "evallogs/") if self._tip else []
            self._there = {entry.path for entry in files}
        with named(self._layout.attempts, "read"):
            path = self._layout.attempts
            content = path.read_bytes() if path.exists() else b""
        records = self._reader.attempts(content, str(path)).records
        wanted = dict.fromkeys(logs_of(records))
        if not self._looked_around:
            # Logs that no record names are upstream's, from before.
            wanted |= dict.fromkeys(all_logs(self._layout))
            self._looked_around = True
        return [
            name
            for name in wanted
            if name not in self._there
            and name + COMPRESSED not in self._there
            and not self._blobs.stays(name)
            and is_log(self._layout, name)
        ]

    def _join(self, theirs: str) -> None:
        """Make the branch hold theirs and ours."""
        repository = self.branch.repository
        ours = self._tip
        if ours is not None and (ours == theirs or repository.is_ancestor(theirs, ours)):
            return
        if ours is None or repository.is_ancestor(ours, theirs):
            try:
                self.branch.move(theirs, old=ours, why="fetched")
            except MovedError:
                self._tip, self._there = self.branch.tip(), None
                raise
            self._tip, self._there = theirs, None
            return
        joined = self.branch.joined(theirs, ours)
        parents = self._parents(theirs, ours)
        self._put(parents, self.branch.states(theirs), joined.states, logs=joined.logs)
        if self._there is not None:
            self._there.update(joined.theirs)

    def _parents(self, theirs: str, ours: str) -> list[str]:
        """What a merged snapshot follows: theirs alone, if nobody has seen the rest of ours."""
        unseen = self.branch.repository.run("rev-list", f"{theirs}..{ours}").decode().split()
        return [theirs] if self._own.issuperset(unseen) else [theirs, ours]

    def _message(self, before: dict[str, bytes], states: dict[str, bytes]) -> str:
        name = f"{self._start}progress.txt"
        finished = self._reader.finished(states.get(name, b""), name)
        added = states.get(name, b"").count(b"\n") - before.get(name, b"").count(b"\n")
        run = parse_run_file(states.get(f"{self._start}run.json", b""))
        commands = run.commands if run else finished.commands
        done = set(finished.commands)
        return message(
            self.about,
            done=sum(command in done for command in commands),
            total=len(commands),
            added=added,
        )


# Seconds in which evals that end one after the other are gathered into one snapshot, and by how
# much longer than the last snapshot took it is waited for the next: it may cost a twentieth.
GATHER = 1.0

SHARE = 20

# Seconds for the last push, when somebody waits for the end.
LAST_PATIENCE = 30.0

# The same, when somebody has asked twice; GitHub kills a job 2.5 seconds after it asked again.
HURRIED_PATIENCE = 1.5

# How gently Git runs beside the evals, from 0 to 19.
NICE = 10


class Background:
    """Takes snapshots beside a run: after evals end, every so often, and at the end."""

    def __init__(self, snapshots: Snapshots, *, every: float, warn: Callable[[str], None]) -> None:
        self._snapshots = snapshots
        self._every = every
        self._warn = warn
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._hurry = threading.Event()
        self._said = ""
        self._problem = ""
        self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)

    def start(self) -> None:
        """Begin to wait for changes."""
        self._thread.start()

    def changed(self) -> None:
        """Evals have ended and are on record."""
        self._changed.set()

    def hurry(self) -> None:
        """Take a snapshot now, for the end may come soon."""
        self._hurry.set()
        self._changed.set()

    def end(self, interrupted: Callable[[], bool] = lambda: False) -> str:
        """Take the last snapshot, and push it.

        Args:
            interrupted: whether nobody wants to wait any longer.

        Returns:
            Why it could not be taken or pushed, on one line; empty if it was.
        """
        self._ending.set()
        self.hurry()
        if self._thread.ident is None:
            self._thread.start()
        deadline = math.inf
        while self._thread.is_alive():
            self._thread.join(0.1)
            if deadline == math.inf and interrupted():
                deadline = time.monotonic() + HURRIED_PATIENCE
            if time.monotonic() > deadline:
                self._snapshots.branch.repository.stop()
        return self._problem

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._ending.is_set():
            self._changed.wait(self._every)
            self._hurry.wait(min(GATHER, self._every))
            if self._ending.is_set():
                break
            self._changed.clear()
            before = time.monotonic()
            problem = self._once()
            if problem and problem != self._said:
                self._warn(f"{problem}; it is tried again, and the evals go on")
            self._said = problem
            self._hurry.wait(min(self._every, SHARE * (time.monotonic() - before)))
        self._problem = self._once(seconds=LAST_PATIENCE)

    def _once(self, **patience: float) -> str:
        snapshots = self._snapshots
        try:
            snapshots.take()
        except Exception as error:  # noqa: BLE001 - whatever it is, the evals go on
            return f"no snapshot was taken: {_line(error)}"
        try:
            snapshots.push(**patience)
        except Exception as error:  # noqa: BLE001 - as above
            shown = snapshots.remote.shown if snapshots.remote else ""
            return f"the snapshot is not pushed to {shown}: {_line(error)}"
        return ""


def _line(error: Exception) -> str:
    if isinstance(error, OvertakenError):
        return "others were faster each time"
    return error.line if isinstance(error, GitError) else str(error)

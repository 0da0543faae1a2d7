import math
import os
import threading
import time
from collections.abc import Callable

from runner.branch.git import GitError
from runner.branch.remote import PATIENCE, OvertakenError
from runner.branch.snapshots import Snapshots

# Seconds in which evals that end one after the other are gathered into one snapshot.
GATHER = 1.0

# How many times as long as the last snapshot took the next one waits: it may cost a twentieth.
SHARE = 20

# Seconds for the last push, when somebody waits for the end.
LAST_PATIENCE = 30.0

# The same, when somebody has asked twice; GitHub kills a job 2.5 seconds after it asked again.
HURRIED_PATIENCE = 1.5

# How gently Git runs next to the evals, from 0 to 19.
NICE = 10


class BackgroundSnapshots:
    """Takes snapshots during a run: after evals end, every so often, and at the end."""

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
        """Begin to wait for evals that end."""
        self._thread.start()

    def changed(self) -> None:
        """Evals have ended and are on record."""
        self._changed.set()

    def hurry(self) -> None:
        """Take a snapshot now, because the end may come soon."""
        self._hurry.set()
        self._changed.set()

    def end(self, interrupted: Callable[[], bool] = lambda: False) -> str:
        """Take and push the last snapshot; say why that failed, on one line, or nothing.

        Once `interrupted`, it hurries.
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
            problem = self._once(PATIENCE)
            if problem and problem != self._said:
                self._warn(f"{problem}; it is retried, and the evals continue")
            self._said = problem
            self._hurry.wait(min(self._every, SHARE * (time.monotonic() - before)))
        self._problem = self._once(LAST_PATIENCE)

    def _once(self, seconds: float) -> str:
        snapshots = self._snapshots
        try:
            snapshots.take(everything=self._hurry.is_set())
        except Exception as error:  # noqa: BLE001 - whatever it is, the evals continue
            return f"no snapshot was taken: {_line(error)}"
        try:
            snapshots.push(seconds=seconds)
        except Exception as error:  # noqa: BLE001 - as above
            shown = snapshots.remote.public_address if snapshots.remote else ""
            return f"the snapshot is not pushed to {shown}: {_line(error)}"
        return ""


def _line(error: Exception) -> str:
    if isinstance(error, OvertakenError):
        return "others were faster each time"
    return error.line if isinstance(error, GitError) else str(error)

import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from runner.branch.git import GitError
from runner.branch.progress_branch import About, default_branch, open_branch
from runner.branch.remote import PATIENCE, OvertakenError, reaching
from runner.branch.restore import restore_progress
from runner.branch.snapshots import Snapshots, open_snapshots
from runner.errors import UsageError
from runner.files import make_folder
from runner.host import Host
from runner.image.image import own_fingerprint
from runner.records.folders import temporary_folder
from runner.report.display import Display
from runner.report.text import evals
from runner.run.prepare import Prepared, secret_variables

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


# Seconds after which people wonder what is happening.
SOON = 5.0


class RunSnapshots(BackgroundSnapshots):
    """The snapshots of one run: it resumes from the branch, and takes snapshots until its end."""

    def __init__(
        self, snapshots: Snapshots, prepared: Prepared, display: Display, *, every: float
    ) -> None:
        super().__init__(snapshots, every=every, warn=display.warn)
        self._prepared = prepared
        self._display = display

    def resume(self) -> None:
        """Restore what the branch has into the progress directory.

        Raises:
            UsageError: the run is to start over, but the branch has progress.
        """
        snapshots = self._snapshots
        name = snapshots.branch.name
        if not self._prepared.options.resume:
            with reaching(snapshots.remote), self._patience():
                snapshots.fetch()
            if snapshots.tip is not None:
                raise UsageError(
                    f"--no-resume: the branch {name} has progress, and nothing is ever taken from "
                    "it",
                    "name a new one with --snapshot-branch",
                )
            return
        with self._patience():
            restored = snapshots.restore(warn=self._display.warn)
        note = self._display.note
        of = snapshots.name
        if restored.finished:
            note(f"took over {evals(restored.finished)} that the branch {of} has as finished")
        if restored.answers:
            note(f"took over answers of providers from the branch {of}: {restored.answers}")
        if left := restored.about_left(name):
            note(left)

    def begin(self) -> None:
        """Take and push the first snapshot; EnvironmentFault if the remote does not take it."""
        self._snapshots.take()
        with reaching(self._snapshots.remote), self._patience():
            self._snapshots.push()
        self._display.note(f"snapshots go to {self.where}")
        self.start()

    @property
    def where(self) -> str:
        """The branch, and where it is."""
        branch, remote = self._snapshots.branch, self._snapshots.remote
        if remote is None:
            return (
                f"the branch {branch.name} in {branch.repository.git_dir} alone: "
                "there is no remote to push it to (--remote)"
            )
        return f"the branch {branch.name} at {remote.public_address}"

    @contextmanager
    def _patience(self) -> Iterator[None]:
        remote = self._snapshots.remote
        line = f"waiting for the remote {remote.public_address}" if remote else ""
        timer = threading.Timer(SOON, self._display.note, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextmanager
def snapshots_of(
    prepared: Prepared, host: Host, display: Display, *, run: str
) -> Iterator[RunSnapshots]:
    """The snapshots of a run that is to take some; `run` is its id."""
    options = prepared.options
    assert options.snapshot is not None  # noqa: S101 - the caller has looked
    image = prepared.image
    about = About(
        model=options.model,
        eval_set=options.eval_set,
        host=host.name,
        image=image.digest or own_fingerprint(prepared.engine.api, image) or image.id,
        shard=options.shard,
        run=run,
    )
    with open_snapshots(
        options.snapshot,
        prepared.layout,
        host,
        about=about,
        environment=secret_variables(prepared, host),
        warn=display.warn,
    ) as snapshots:
        yield RunSnapshots(snapshots, prepared, display, every=options.snapshot.every)


@contextmanager
def after_fetching(
    prepared: Prepared, host: Host, *, tell: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[Prepared]:
    """A run with the records that it would find after resuming from its branch; changes nothing."""
    options = prepared.options
    if options.snapshot is None or not options.resume:
        yield prepared
        return
    layout = prepared.layout
    name = options.snapshot.branch or default_branch(options.model, options.eval_set)
    with temporary_folder("dry-run") as folder:
        copy = msgspec.structs.replace(layout, root=folder)
        for path in layout.state_files():
            make_folder((copy.root / path).parent)
            shutil.copyfile(layout.root / path, copy.root / path)
        with open_branch(options.snapshot, layout.root, host, name=name) as branch:
            with reaching(branch.remote):
                theirs = branch.fetch()
            tips = [tip for tip in (branch.tip(), theirs) if tip is not None]
            for commit in tips:
                restore_progress(branch, commit, copy, logs=False, warn=warn)
            where = f"at {branch.remote.public_address}" if branch.remote else "on this host alone"
            tell(f"branch {name} {where}{'' if tips else ', which is not there yet'}")
        yield msgspec.structs.replace(prepared, layout=copy)

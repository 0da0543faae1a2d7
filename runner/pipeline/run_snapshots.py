import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runner.errors import UsageError
from runner.execute.image import own_fingerprint
from runner.pipeline.options import Host, SnapshotOptions
from runner.pipeline.prepare import Prepared
from runner.pipeline.sharing import go_on_from_branch, reaching, sharing
from runner.report.display import Display
from runner.report.text import evals
from runner.share.background import Background
from runner.share.message import About
from runner.share.snapshots import Snapshots

# Seconds after which people wonder what is going on.
SOON = 5.0


class RunSnapshots:
    """The snapshots of one run: the branch's before it, its own while it goes on and at its end."""

    def __init__(
        self, snapshots: Snapshots, options: SnapshotOptions, prepared: Prepared, display: Display
    ) -> None:
        self._snapshots = snapshots
        self._prepared = prepared
        self._display = display
        self._background = Background(snapshots, every=options.every, warn=display.warn)

    def go_on(self) -> None:
        """Bring what the branch has into the progress directory.

        Raises:
            UsageError: the run is to start over, and the branch has progress.
            EnvironmentFault: the remote is away, or refuses.
        """
        snapshots, options = self._snapshots, self._prepared.options
        name = snapshots.branch.name
        if not options.resume:
            with reaching(snapshots.remote), self._patience():
                snapshots.fetch()
            if snapshots.tip is not None:
                raise UsageError(
                    f"--no-resume: the branch {name} has progress, and nothing is ever taken from "
                    "it; name a new one with --snapshot-branch"
                )
            return
        with self._patience():
            added = go_on_from_branch(snapshots, self._prepared.layout, warn=self._display.warn)
        if added:
            self._display.note(f"took over {evals(added)} that the branch {name} has as finished")

    def begin(self) -> None:
        """Take and push the first snapshot, which shows that the remote takes them.

        Raises:
            EnvironmentFault: it does not.
        """
        self._snapshots.take()
        with reaching(self._snapshots.remote), self._patience():
            self._snapshots.push()
        self._display.note(f"snapshots go to {self.where}")
        self._background.start()

    @property
    def where(self) -> str:
        """The branch, and who has it."""
        branch, remote = self._snapshots.branch, self._snapshots.remote
        if remote is None:
            return (
                f"the branch {branch.name} in {branch.repository.git_dir} alone: "
                "there is no remote to push it to (--remote)"
            )
        return f"the branch {branch.name} at {remote.shown}"

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Say what is waited for, if it takes long."""
        remote = self._snapshots.remote
        line = f"waiting for the remote {remote.shown}" if remote else ""
        timer = threading.Timer(SOON, self._display.note, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def changed(self) -> None:
        """Evals have ended and are on record."""
        self._background.changed()

    def hurry(self) -> None:
        """The run is ending: whoever stops it may not wait for long."""
        self._background.hurry()

    def end(self, interrupted: Callable[[], bool] = lambda: False) -> str:
        """Take and push the last snapshot, unless nobody waits any longer.

        Returns:
            Why it was not taken or pushed, on one line; empty if it was.
        """
        return self._background.end(interrupted)


@contextmanager
def snapshots_of(
    prepared: Prepared, host: Host, display: Display, *, run: str, environment: dict[str, str]
) -> Iterator[RunSnapshots]:
    """The snapshots of a run that is to take some."""
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
    with sharing(
        options.snapshot,
        prepared.layout,
        host,
        about=about,
        environment=environment,
        warn=display.warn,
    ) as snapshots:
        yield RunSnapshots(snapshots, options.snapshot, prepared, display)

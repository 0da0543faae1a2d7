from collections.abc import Iterator
from contextlib import contextmanager

from runner.errors import UsageError
from runner.pipeline.options import Host, SnapshotOptions
from runner.pipeline.prepare import Prepared
from runner.pipeline.sharing import go_on_from_branch, reaching, sharing
from runner.report.display import Display
from runner.report.text import evals
from runner.share.background import Background
from runner.share.message import About
from runner.share.snapshots import Snapshots


class RunSnapshots:
    """The snapshots of one run: the branch's before it, its own while it goes on and at its end.

    Attributes:
        begun: whether the remote has taken the first.
    """

    def __init__(
        self, snapshots: Snapshots, options: SnapshotOptions, prepared: Prepared, display: Display
    ) -> None:
        self._snapshots = snapshots
        self._prepared = prepared
        self._display = display
        self._background = Background(snapshots, every=options.every, warn=display.warn)
        self.begun = False

    def go_on(self) -> None:
        """Bring what the branch has into the progress directory.

        Raises:
            UsageError: the run is to start over, and the branch has progress.
            EnvironmentFault: the remote is away, or refuses.
        """
        snapshots, options = self._snapshots, self._prepared.options
        name = snapshots.branch.name
        if not options.resume:
            with reaching(snapshots.remote):
                snapshots.fetch()
            if snapshots.tip is not None:
                raise UsageError(
                    f"--no-resume: the branch {name} has progress, and nothing is ever taken from "
                    "it; name a new one with --snapshot-branch"
                )
            return
        added = go_on_from_branch(snapshots, self._prepared.layout, warn=self._display.warn)
        if added:
            self._display.note(f"took over {evals(added)} that the branch {name} has as finished")

    def begin(self) -> None:
        """Take and push the first snapshot, which shows that the remote takes them.

        Raises:
            EnvironmentFault: it does not.
        """
        self._snapshots.take()
        with reaching(self._snapshots.remote):
            self._snapshots.push()
        where = f" on {self._snapshots.remote.shown}" if self._snapshots.remote else ""
        self._display.note(f"snapshots go to the branch {self._snapshots.branch.name}{where}")
        self._background.start()
        self.begun = True

    def changed(self) -> None:
        """Evals have ended and are on record."""
        self._background.changed()

    def hurry(self) -> None:
        """The run is ending: whoever stops it may not wait for long."""
        self._background.hurry()

    def end(self) -> str:
        """Take and push the last snapshot; gives why it could not be, on one line."""
        return self._background.end()


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
        image=image.digest or image.fingerprint or image.id,
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

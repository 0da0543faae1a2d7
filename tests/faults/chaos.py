"""Runs that are disturbed at random, again and again, until they are done."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

import msgspec

from tests.conftest import Place
from tests.faults.events import Recording
from tests.faults.invariants import check_now

# Seconds after which a run that was told to end has not.
PATIENCE = 60


class Disturbance(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to one invocation of the runner, and when.

    The moment is a time since the start, or an event at the engine: the latter hits the short
    moments in which something is made, started, recorded or removed.

    Attributes:
        after: seconds since the start, if `events` is 0.
        events: how many events of the engine are waited for.
        jitter: seconds from the last of them.
        signals: what is sent, one after the other.
        gap: seconds between two signals.
    """

    after: float
    events: int
    jitter: float
    signals: tuple[signal.Signals, ...]
    gap: float


def draw(
    decide: random.Random, ways: Sequence[tuple[signal.Signals, ...]], *, longest: float
) -> Disturbance:
    """Decide on a disturbance; each takes the same number of decisions."""
    by_event = decide.random() < 0.5
    events = decide.randint(1, 12)
    return Disturbance(
        after=decide.uniform(0.02, longest),
        events=events if by_event else 0,
        jitter=decide.choice([0.0, 0.005, 0.02, 0.05]) * decide.random(),
        signals=decide.choice(ways),
        gap=decide.uniform(0, 0.3),
    )


class Invocation:
    """One process of the runner, whose output goes to a file."""

    def __init__(self, place: Place, options: Sequence[str], **variables: str) -> None:
        # Where passing files go, so that those that stay are found.
        (place.folder / "tmp").mkdir(exist_ok=True)
        variables = {"TMPDIR": str(place.folder / "tmp"), **variables}
        self._log = place.folder / "said.txt"
        with self._log.open("ab") as said:
            self.process = subprocess.Popen(
                place.line(*options),
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=place.folder,
                env=place.environ(**variables),
            )

    def disturb(self, what: Disturbance, recording: Recording) -> bool:
        """Send the signals at their moment; tell whether it was still there for the first."""
        began = time.monotonic()
        if what.events:
            wanted = recording.count + what.events
            while not recording.wait_for(wanted, 0.05):
                if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                    break
            time.sleep(what.jitter)
        else:
            time.sleep(what.after)
        met = self.process.poll() is None
        for number, each in enumerate(what.signals):
            if number:
                time.sleep(what.gap)
            self.process.send_signal(each)
        self.end()
        return met

    def end(self) -> int:
        """Wait for its end, and give its status."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it does not end: {self.said()}") from None

    @property
    def crashed(self) -> bool:
        """Whether it ended with a traceback; those of evals are indented."""
        return "\nTraceback" in f"\n{self._log.read_text(errors='replace')}"

    def said(self) -> str:
        """The end of what this and earlier invocations printed."""
        return self._log.read_text(errors="replace")[-3000:]


def disturbed(
    place: Place,
    recording: Recording,
    options: Sequence[str],
    next_disturbance: Callable[[], Disturbance | None],
    *,
    after_each: Callable[[int], None] = lambda _status: None,
    done: Sequence[int] = (0,),
) -> int:
    """Start the runner again until it ends by itself and all is done; check after each time.

    Args:
        place: where.
        recording: of the engine.
        options: for `evalset run`.
        next_disturbance: of the next invocation; None is none.
        after_each: told the status of each invocation when the records have been checked.
        done: statuses that say that nothing is left to do.

    Returns:
        How many invocations were there to be disturbed.
    """
    met = 0
    before = b""
    while True:
        invocation = Invocation(place, options)
        what = next_disturbance()
        met += what is not None and invocation.disturb(what, recording)
        status = invocation.end()
        before = check_now(place, before)
        after_each(status)
        if status in done:
            return met
        if what is None:
            raise AssertionError(f"status {status}: {invocation.said()}")

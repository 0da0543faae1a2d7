"""Follows what an eval prints over connections that break, and from host to host."""

import time
from collections.abc import Callable, Iterator

from runner.hosts.leftovers import Left, console_on, left_on_hosts, newest
from runner.hosts.ssh import Unreachable, Unusable
from runner.model import Attempt, Result
from runner.records.layout import Layout
from runner.records.lock import is_held
from runner.records.state import RunState

# Seconds between two looks whether a host is back, or whether an eval runs elsewhere.
PAUSE = 1.0


class Following:
    """What an eval prints until it is over, or until the run is.

    Args:
        tell: is told where the eval runs next.
    """

    def __init__(self, layout: Layout, tell: Callable[[str], None]) -> None:
        self._layout = layout
        self._tell = tell

    def parts(self, left: Left) -> Iterator[bytes]:
        """Begin with this attempt.

        Raises:
            EnvironmentFault: its host cannot be used, and no run will notice.
        """
        while True:
            yield from self._one(left)
            following = self._next(left)
            if following is None:
                return
            name = left.command.eval
            self._tell(f"{name} was lost on {left.host}, and continues on {following.host}")
            if isinstance(following, Attempt):
                yield from self._kept(following, 0)
                return
            left = following

    def _one(self, left: Left) -> Iterator[bytes]:
        """What an attempt prints; a connection that breaks is made again."""
        seen = 0
        told = False
        while True:
            at = 0
            try:
                for part in console_on(self._layout, left, follow=True):
                    new = part[max(0, seen - at) :]
                    at += len(part)
                    seen = max(seen, at)
                    yield new
            except Unusable as error:
                if record := self._record(left):
                    yield from self._kept(record, seen)
                    return
                if not isinstance(error, Unreachable) or not is_held(self._layout.lock):
                    raise
                if not told:
                    told = True
                    self._tell(f"{error.what}; waits until it is back, or the eval runs elsewhere")
                time.sleep(PAUSE)
            else:
                return

    def _next(self, left: Left) -> Left | Attempt | None:
        """The attempt with which an eval continues that was lost; None if it does not."""
        while True:
            state = RunState.from_directory(self._layout)
            one = newest(left_on_hosts(self._layout, state).attempts, left.command.eval)
            if one is not None and one.attempt > left.attempt:
                return one
            record = self._record(left, state)
            if record is None or record.result is not Result.LOST:
                return None
            for other in reversed(state.attempts):
                if other.eval == left.command.eval and other.id > left.attempt:
                    return other
            if not is_held(self._layout.lock):
                self._tell(f"{left.command.eval} was lost on {left.host}, and no run is under way")
                return None
            time.sleep(PAUSE)

    def _record(self, left: Left, state: RunState | None = None) -> Attempt | None:
        state = state or RunState.from_directory(self._layout)
        return next((each for each in state.attempts if each.id == left.attempt), None)

    def _kept(self, record: Attempt, seen: int) -> Iterator[bytes]:
        """The rest of what is kept of an attempt's output."""
        for path in self._layout.log_paths([record.console_log] if record.console_log else []):
            with path.open("rb") as file:
                file.seek(seen)
                while part := file.read(65536):
                    yield part

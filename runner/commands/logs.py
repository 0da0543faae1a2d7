import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, TextIO

import click

from runner.commands.command_line import evalset_command
from runner.errors import UsageError, did_you_mean
from runner.hosts.leftovers import Left, console_on, left_on_hosts, newest
from runner.hosts.ssh import Unreachable, Unusable
from runner.model import Attempt, Result
from runner.options import PROGRESS_DIR, EvalSet, Model, ProgressDir
from runner.parameters import Argument, Option
from runner.records.layout import Layout
from runner.records.run_lock import is_held
from runner.records.state import RunState, StateReader
from runner.report.text import harmless_parts, on_actions, plain_line

# Seconds between two looks whether a host is back, or whether an eval runs elsewhere.
PAUSE = 1.0


class Following:
    """What an eval prints until it is over, or until the run is.

    Args:
        tell: is told where the eval runs next.
    """

    def __init__(self, layout: Layout, tell: Callable[[str], None]) -> None:
        self._layout = layout
        self._reader = StateReader()
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
            state = RunState.from_directory(self._layout, self._reader)
            one = newest(left_on_hosts(self._layout, state).attempts, left.command.eval)
            if one is not None and one.attempt > left.attempt:
                return one
            record = self._record(left)
            if record is None or record.result is not Result.LOST:
                return None
            for other in reversed(state.attempts):
                if other.eval == left.command.eval and other.id > left.attempt:
                    return other
            if not is_held(self._layout.lock):
                self._tell(f"{left.command.eval} was lost on {left.host}, and no run is under way")
                return None
            time.sleep(PAUSE)

    def _record(self, left: Left) -> Attempt | None:
        state = RunState.from_directory(self._layout, self._reader)
        return next((each for each in state.attempts if each.id == left.attempt), None)

    def _kept(self, record: Attempt, seen: int) -> Iterator[bytes]:
        """The rest of what is kept of an attempt's output."""
        for path in self._layout.log_paths([record.console_log] if record.console_log else []):
            with path.open("rb") as file:
                file.seek(seen)
                while part := file.read(65536):
                    yield part


def show(root: Path, model: str, eval_set: str, name: str, *, out: TextIO, follow: bool) -> None:
    """Print the console log of an eval's running attempt, or else of its newest one."""
    from runner.engine.engine import Engine, as_environment_fault
    from runner.engine.leftovers import containers_of
    from runner.engine.live import console_of

    layout = Layout.named(root, model, eval_set)
    state = RunState.from_directory(layout)
    records = state.attempts
    running = containers_of(layout)
    there = left_on_hosts(layout, state).attempts
    known = {record.eval for record in records}
    known |= {left.command.eval for left in running} | {left.command.eval for left in there}
    keys = [key for key in sorted(known) if key == name or key.startswith(f"{name}.")]
    if not known and not state.commands:
        raise layout.no_progress()
    if not keys:
        hint = did_you_mean(name, known) or "`evalset status` lists the evals"
        raise UsageError(f"no attempt of `{name}` for {model} {eval_set}", hint)
    if len(keys) > 1 and name not in keys:
        raise UsageError(f"`{name}` could be any of {', '.join(keys)}", "name one in full")
    key = name if name in keys else keys[0]
    for left in running:
        if left.command.eval == key and left.running:
            with as_environment_fault():
                _print(console_of(Engine(), left.container, follow=follow), out)
            return
    if on_host := newest(there, key):
        following = Following(layout, lambda text: click.echo(plain_line(text), err=True))
        parts = following.parts(on_host) if follow else console_on(layout, on_host, follow=False)
        try:
            first = next(parts, b"")
        except Unusable:
            records = RunState.from_directory(layout).attempts
            if on_host.attempt not in {record.id for record in records}:
                raise
        else:
            _print(chain([first], parts), out)
            return
    _print_kept(layout, key, [record for record in records if record.eval == key], out)


def _print_kept(layout: Layout, eval_key: str, records: list[Attempt], out: TextIO) -> None:
    kept = [record.console_log for record in records if record.console_log]
    if not kept:
        raise UsageError(
            f"no attempt of `{eval_key}` has left a console log",
            "`evalset status` says how they ended",
        )
    paths = layout.log_paths(kept[-1:])
    if not paths:
        raise UsageError(
            f"the console log {layout.root / kept[-1]} is not there any more",
            "move it back to read it",
        )
    with paths[0].open("rb") as file:
        _print(iter(lambda: file.read(65536), b""), out)


def _print(parts: Iterable[bytes], out: TextIO) -> None:
    """To a terminal and to GitHub only what cannot harm it; elsewhere what the eval wrote."""
    if out.isatty() or on_actions():
        for text in harmless_parts(parts):
            out.write(text)
            out.flush()
        return
    for part in parts:
        out.buffer.write(part)
        out.flush()


@evalset_command("evalset logs gpt-4 test-basic test-match -f")
def command(
    *,
    model: Model,
    eval_set: EvalSet,
    eval_name: Annotated[str, Argument("eval", metavar="EVAL")],
    follow: Annotated[
        bool,
        Option(
            "Follow the output while the eval runs.", names=("-f", "--follow"), configurable=False
        ),
    ] = False,
    progress_dir: ProgressDir = PROGRESS_DIR,
) -> None:
    """Print what an eval printed: its running attempt, or else its newest.

    EVAL is the eval's name as the tables show it, or its beginning up to a dot.
    """
    show(progress_dir, model, eval_set, eval_name, out=sys.stdout, follow=follow)

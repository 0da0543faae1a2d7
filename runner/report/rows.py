from collections.abc import Collection, Iterable, Sequence

import msgspec

from runner.job import Result
from runner.record.attempts import AttemptRecord
from runner.record.progress import Finished

STATE_OF = {Result.SUCCESS: "done", Result.FAILURE: "failed", Result.LOST: "lost"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One eval of a result table.

    Attributes:
        eval: the resolved key.
        state: `done`, `failed`, `lost`, `running` or `to do`.
        reason: why it failed, empty else.
        final_report: of the newest attempt.
        samples: in its logs.
        duration: of the newest attempt, in seconds; None when there was none.
        attempts: how many ended.
        console_log: of the newest attempt, relative to the progress directory.
    """

    eval: str
    state: str
    reason: str = ""
    final_report: dict[str, object] | None = None
    samples: int = 0
    duration: float | None = None
    attempts: int = 0
    console_log: str | None = None


def rows_of(
    commands: Sequence[tuple[str, ...]],
    *,
    finished: Finished,
    records: Iterable[AttemptRecord],
    running: Collection[tuple[str, ...]] = (),
) -> list[Row]:
    """A table's rows for commands, in their order, from what is on record."""
    done = set(finished.commands)
    plain = set(finished.lines)
    by_command: dict[tuple[str, ...], list[AttemptRecord]] = {}
    for record in records:
        by_command.setdefault(record.command, []).append(record)
    table = []
    for command in commands:
        is_done = command in done or " ".join(command) in plain
        row = _row(command, by_command.get(command, []), done=is_done)
        if command in running and not is_done:
            row = msgspec.structs.replace(row, state="running", reason="", duration=None)
        table.append(row)
    return table


def _row(command: tuple[str, ...], records: Sequence[AttemptRecord], *, done: bool) -> Row:
    name = command[2] if len(command) > 2 else " ".join(command)  # noqa: PLR2004 - program, model, eval
    successes = [record for record in records if record.result is Result.SUCCESS]
    if done and not successes:
        return Row(eval=name, state="done", attempts=len(records))
    if not records:
        return Row(eval=name, state="to do")
    newest = successes[-1] if done else records[-1]
    state = "done" if done else STATE_OF[newest.result]
    if newest.result is Result.SUCCESS and not done:
        state = "to do"  # its line was taken out of the progress file, which is a fresh start
    return Row(
        eval=newest.eval,
        state=state,
        reason="" if done else newest.reason,
        final_report=newest.final_report,
        samples=newest.samples,
        duration=newest.duration,
        attempts=len(records),
        console_log=newest.console_log,
    )
